// Generalised advantage estimation over the sampled tokens of one sequence. Pure, float64,
// torch-free.
//
// Schulman et al., arXiv 1506.02438; decoupled λ for the policy and the value targets as in VC-PPO
// (arXiv 2503.01491), length-adaptive λ as in VAPO (arXiv 2504.05118 §4). Tokens that the policy
// did not sample are not in the sequence: credit passes over them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/config.h"

namespace tramontane {

struct GaeResult {
  std::vector<double> advantage;     // with λ of the policy
  std::vector<double> value_target;  // A(λ of the value) + V: what the critic learns
};

// `reward` and `value` have one entry a sampled token.
GaeResult EstimateAdvantages(std::span<const double> reward, std::span<const double> value,
                             const AdvantageConfig& advantage);

// lambda_policy, or 1 − 1/(α·tokens), not below 0, with alpha.
double PolicyLambda(const AdvantageConfig& advantage, int64_t tokens);

}  // namespace tramontane
