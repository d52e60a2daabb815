// Magistral's reward table (arXiv 2506.10910 §2.2): the format gate, then accuracy, one language
// throughout, and a soft penalty for length. Every number is a field of RewardSection. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

// InvalidArgument names the field that cannot work.
absl::Status ValidateReward(const RewardSection& reward);

// 0 up to max − cache tokens, then falling linearly to −length_penalty at max and beyond.
double LengthPenalty(int32_t completion_tokens, const RewardSection& reward);

// Fills score and components of a scored verdict. A completion that fails the gate scores 0 and
// nothing else is added. `accuracy` and `language` are shares of 1 and count only behind the gate.
void ApplyRewardTable(bool format_passed, double accuracy, double language,
                      int32_t completion_tokens, const RewardSection& reward, Verdict& verdict);

std::vector<std::string> RewardComponents(const RewardSection& reward);
double MinReward(const RewardSection& reward);
double MaxReward(const RewardSection& reward);

}  // namespace tramontane
