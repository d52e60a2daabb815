#include "verifier/reward_table.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tramontane {

absl::Status ValidateReward(const RewardSection& reward) {
  for (const auto& [name, value] :
       {std::pair{"format", reward.format}, std::pair{"correct", reward.correct},
        std::pair{"language", reward.language},
        std::pair{"length_penalty", reward.length_penalty}}) {
    if (!std::isfinite(value) || value < 0) {
      return absl::InvalidArgumentError(std::string("reward.") + name +
                                        ": must be finite and not negative");
    }
  }
  const RewardSection defaults;
  const bool table = reward.format != defaults.format || reward.correct != defaults.correct ||
                     reward.language != 0 || reward.length_penalty != 0;
  if (!reward.terms.empty() && table) {
    return absl::InvalidArgumentError(
        "reward.terms: takes the place of reward.format, correct, language and length_penalty; "
        "set the one or the others");
  }
  if (reward.length_penalty > 0 &&
      (reward.length_cache_tokens <= 0 || reward.length_max_tokens < reward.length_cache_tokens)) {
    return absl::InvalidArgumentError(
        "reward.length_penalty: needs 0 < reward.length_cache_tokens <= reward.length_max_tokens");
  }
  if (reward.require_think && (reward.think_open.empty() || reward.think_close.empty() ||
                               reward.think_open == reward.think_close)) {
    return absl::InvalidArgumentError(
        "reward.think_open: require_think needs two different tags");
  }
  return absl::OkStatus();
}

double LengthPenalty(int32_t completion_tokens, const RewardSection& reward) {
  if (reward.length_penalty == 0) return 0;
  const int64_t over = int64_t{completion_tokens} - reward.length_max_tokens +
                       reward.length_cache_tokens;
  if (over <= 0) return 0;
  const double share = std::min(1.0, static_cast<double>(over) / reward.length_cache_tokens);
  return -reward.length_penalty * share;
}

void ApplyRewardTable(bool format_passed, double accuracy, double language,
                      int32_t completion_tokens, const RewardSection& reward, Verdict& verdict) {
  verdict.status = VerdictStatus::kScored;
  const double gate = format_passed ? 1 : 0;
  verdict.components = {{"format", gate * reward.format},
                        {"accuracy", gate * reward.correct * accuracy}};
  if (reward.language > 0) verdict.components["language"] = gate * reward.language * language;
  if (reward.length_penalty > 0) {
    verdict.components["length"] = gate * LengthPenalty(completion_tokens, reward);
  }
  // In this order, so that 0.1 + 0.9 is 1.
  double score = verdict.components["format"] + verdict.components["accuracy"];
  if (reward.language > 0) score += verdict.components["language"];
  if (reward.length_penalty > 0) score += verdict.components["length"];
  verdict.score = score;
}

std::vector<std::string> RewardComponents(const RewardSection& reward) {
  std::vector<std::string> names = {"format", "accuracy"};
  if (reward.language > 0) names.push_back("language");
  if (reward.length_penalty > 0) names.push_back("length");
  return names;
}

double MinReward(const RewardSection& reward) {
  return std::min(0.0, reward.format - reward.length_penalty);
}

double MaxReward(const RewardSection& reward) {
  return reward.format + reward.correct + reward.language;
}

}  // namespace tramontane
