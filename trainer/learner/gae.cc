#include "trainer/learner/gae.h"

#include <algorithm>

namespace tramontane {
namespace {

std::vector<double> Gae(std::span<const double> reward, std::span<const double> value, double gamma,
                        double lambda) {
  std::vector<double> advantage(reward.size());
  double next_value = 0, next_advantage = 0;
  for (size_t t = reward.size(); t-- > 0;) {
    const double surprise = reward[t] + gamma * next_value - value[t];
    next_advantage = surprise + gamma * lambda * next_advantage;
    next_value = value[t];
    advantage[t] = next_advantage;
  }
  return advantage;
}

}  // namespace

double PolicyLambda(const AdvantageConfig& advantage, int64_t tokens) {
  if (!advantage.alpha) return advantage.lambda_policy;
  return std::max(0.0,
                  1 - 1 / (*advantage.alpha * static_cast<double>(std::max<int64_t>(tokens, 1))));
}

GaeResult EstimateAdvantages(std::span<const double> reward, std::span<const double> value,
                             const AdvantageConfig& advantage) {
  GaeResult result;
  result.advantage = Gae(reward, value, advantage.gamma,
                         PolicyLambda(advantage, static_cast<int64_t>(reward.size())));
  result.value_target = Gae(reward, value, advantage.gamma, advantage.lambda_value);
  for (size_t t = 0; t < value.size(); ++t) result.value_target[t] += value[t];
  return result;
}

}  // namespace tramontane
