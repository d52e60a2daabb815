#include "generator/search/votes.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace tramontane {
namespace {

struct Party {
  size_t first = 0, best = 0;  // indices of responses
  double votes = 0;
};

// Sums `weight` per answer, in the order in which answers are first seen.
std::vector<Party> Count(const Answers& answers, const std::vector<double>& weight,
                         const SameAnswer& same) {
  std::vector<Party> parties;
  for (size_t i = 0; i < answers.size(); ++i) {
    if (!answers[i]) continue;
    auto party = std::ranges::find_if(
        parties, [&](const Party& p) { return same(*answers[p.first], *answers[i]); });
    if (party == parties.end()) party = parties.insert(parties.end(), Party{i, i, 0});
    party->votes += weight[i];
    if (weight[i] > weight[party->best]) party->best = i;
  }
  return parties;
}

// Of each answer the index of the first that means the same.
std::vector<size_t> PartyOf(const Answers& answers, const SameAnswer& same) {
  std::vector<size_t> parties(answers.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    parties[i] = i;
    for (size_t j = 0; answers[i] && j < i && parties[i] == i; ++j)
      if (answers[j] && parties[j] == j && same(*answers[j], *answers[i])) parties[i] = j;
  }
  return parties;
}

const Party* Winner(const std::vector<Party>& parties) {
  const auto best = std::ranges::max_element(parties, {}, &Party::votes);
  return best == parties.end() ? nullptr : &*best;
}

// C(n, k), or `limit` when it is more.
int64_t Choose(int64_t n, int64_t k, int64_t limit) {
  double count = 1;
  for (int64_t i = 0; i < k; ++i)
    count = count * static_cast<double>(n - i) / static_cast<double>(i + 1);
  return count > static_cast<double>(limit) ? limit : static_cast<int64_t>(count + 0.5);
}

// The next subset in lexicographic order; false after the last.
bool NextSubset(std::vector<size_t>& subset, size_t n) {
  const size_t k = subset.size();
  for (size_t i = k; i-- > 0;) {
    if (subset[i] == n - k + i) continue;
    ++subset[i];
    for (size_t j = i + 1; j < k; ++j) subset[j] = subset[j - 1] + 1;
    return true;
  }
  return false;
}

}  // namespace

size_t MajorityVote(const Answers& answers, const SameAnswer& same) {
  const std::vector<Party> parties = Count(answers, std::vector<double>(answers.size(), 1), same);
  const Party* winner = Winner(parties);
  return winner == nullptr ? 0 : winner->first;
}

size_t WeightedVote(const Answers& answers, const std::vector<double>& scores,
                    const SameAnswer& same) {
  const std::vector<Party> parties = Count(answers, scores, same);
  if (const Party* winner = Winner(parties)) return winner->best;
  return static_cast<size_t>(std::ranges::max_element(scores) - scores.begin());
}

double PassAtK(int64_t n, int64_t correct, int64_t k) {
  double all_wrong = 1;
  for (int64_t i = 0; i < k; ++i)
    all_wrong *=
        static_cast<double>(std::max<int64_t>(n - correct - i, 0)) / static_cast<double>(n - i);
  return 1 - all_wrong;
}

double MajorityAtK(const Answers& answers, const std::vector<uint8_t>& correct, int64_t k,
                   const SameAnswer& same, int64_t most_subsets, uint64_t seed) {
  const std::vector<size_t> parties = PartyOf(answers, same);
  std::vector<int32_t> votes(answers.size() + 1);
  const auto right = [&](const std::vector<size_t>& subset) {
    std::ranges::fill(votes, 0);
    for (size_t i : subset)
      if (answers[i]) ++votes[parties[i]];
    size_t winner = subset[0];
    int32_t most = 0;
    for (size_t i : subset) {
      if (!answers[i] || votes[parties[i]] <= most) continue;
      most = votes[parties[i]];
      winner = i;
    }
    return answers[winner] && correct[winner] ? 1.0 : 0.0;
  };
  const size_t n = answers.size();
  std::vector<size_t> subset(k);
  double sum = 0;
  int64_t count = 0;
  if (Choose(static_cast<int64_t>(n), k, most_subsets + 1) <= most_subsets) {
    std::iota(subset.begin(), subset.end(), 0);
    do {
      sum += right(subset);
      ++count;
    } while (NextSubset(subset, n));
  } else {
    std::mt19937_64 random(seed);
    std::vector<size_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    for (; count < most_subsets; ++count) {
      std::ranges::sample(all, subset.begin(), k, random);  // keeps the order
      sum += right(subset);
    }
  }
  return sum / static_cast<double>(count);
}

double AggregateScores(const std::vector<double>& scores, const std::string& how) {
  if (scores.empty()) return 0;
  if (how == "min") return *std::ranges::min_element(scores);
  if (how == "prod") return std::accumulate(scores.begin(), scores.end(), 1.0, std::multiplies<>());
  return scores.back();
}

}  // namespace tramontane
