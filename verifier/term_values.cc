#include "verifier/term_values.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_map>

#include "verifier/rules/text.h"

namespace tramontane {
namespace {

double Cosine(double share) { return std::cos(std::numbers::pi * share); }

std::vector<std::string_view> WordsOf(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\v\f";
  std::vector<std::string_view> words;
  for (size_t at = text.find_first_not_of(kBlank); at != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBlank, at), text.size());
    words.push_back(text.substr(at, end - at));
    at = text.find_first_not_of(kBlank, end);
  }
  return words;
}

}  // namespace

double SoftOverlong(int32_t tokens, int32_t max_tokens, int32_t cache_tokens) {
  const int64_t over = int64_t{tokens} - max_tokens + cache_tokens;
  if (over <= 0) return 0;
  return -std::min(1.0, static_cast<double>(over) / cache_tokens);
}

double CosineReward(bool correct, int32_t tokens, bool finished, bool tags_in_order,
                    const CosineLengths& lengths) {
  if (!tags_in_order) return -1;
  if (!finished) return -0.5;
  if (correct) {
    const double faded = std::max(0, tokens - lengths.fade_from_tokens);
    const double share = std::min(1.0, faded / (lengths.max_tokens - lengths.fade_from_tokens));
    return 0.5 + 0.25 * (1 + Cosine(share));
  }
  const double share = std::min(1.0, static_cast<double>(tokens) / lengths.wrong_until_tokens);
  return -0.5 - 0.25 * (1 + Cosine(share));
}

double RepetitionPenalty(std::string_view text, int n, int most) {
  const std::vector<std::string_view> words = WordsOf(text);
  const size_t size = static_cast<size_t>(n);
  if (words.size() < size) return 0;
  std::unordered_map<std::string_view, int64_t> counts;
  const size_t total = words.size() - size + 1;
  std::string joined;
  // One text with single blanks holds every n-gram as a piece.
  std::vector<size_t> starts;
  for (std::string_view word : words) {
    starts.push_back(joined.size());
    joined += word;
    joined += ' ';
  }
  starts.push_back(joined.size());
  for (size_t i = 0; i < total; ++i) {
    ++counts[std::string_view(joined).substr(starts[i], starts[i + size] - starts[i])];
  }
  int64_t repeated = 0, commonest = 0;
  for (const auto& [gram, count] : counts) {
    if (count > most) ++repeated;
    commonest = std::max(commonest, count);
  }
  const double share = static_cast<double>(repeated) / static_cast<double>(counts.size());
  const double room = static_cast<double>(words.size()) / n;
  return -std::min(1.0, std::max(share, static_cast<double>(commonest) / room));
}

std::vector<double> KimiLength(const std::vector<int32_t>& tokens,
                               const std::vector<bool>& correct) {
  std::vector<double> rewards(tokens.size(), 0);
  if (tokens.empty()) return rewards;
  const auto [shortest, longest] = std::minmax_element(tokens.begin(), tokens.end());
  if (*shortest == *longest) return rewards;
  const double range = *longest - *shortest;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const double lambda = 0.5 - (tokens[i] - *shortest) / range;
    rewards[i] = correct[i] ? lambda : std::min(0.0, lambda);
  }
  return rewards;
}

DifficultyTag TagOf(std::string_view completion) {
  const std::string_view text = Trimmed(completion);
  if (text.starts_with("[Easy]")) return DifficultyTag::kEasy;
  if (text.starts_with("[Hard]")) return DifficultyTag::kHard;
  return DifficultyTag::kAbsent;
}

std::vector<double> AdaCtrl(const std::vector<AdaCtrlSample>& group,
                            const AdaCtrlSettings& settings) {
  double right = 0;
  int32_t longest = 1;
  for (const AdaCtrlSample& sample : group) {
    right += sample.correct;
    longest = std::max(longest, sample.tokens);
  }
  const bool easy = right > settings.easy_above * static_cast<double>(group.size());
  const DifficultyTag gold = easy ? DifficultyTag::kEasy : DifficultyTag::kHard;
  std::vector<double> rewards;
  for (const AdaCtrlSample& sample : group) {
    const double tag = sample.tag == DifficultyTag::kAbsent ? -1 : sample.tag == gold ? 1 : 0;
    double length = 0;
    if (sample.correct && sample.tag == DifficultyTag::kEasy) {
      length = 0.5 * (1 + Cosine(static_cast<double>(sample.tokens) / longest));
    }
    rewards.push_back((sample.correct ? 1 : -1) + settings.length_weight * length +
                      settings.tag_weight * tag);
  }
  return rewards;
}

}  // namespace tramontane
