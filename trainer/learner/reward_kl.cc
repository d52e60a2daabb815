#include "trainer/learner/reward_kl.h"

#include <algorithm>

#include "common/status.h"
#include "model/transformer.h"

namespace tramontane {

absl::StatusOr<double> ShapeRewardsByKl(Transformer& model, Crew& crew, const PackPlan& plan,
                                        const StepRows& rows, const StepMath& math, bool by_token,
                                        AdvantageInput& input) {
  SampledValues kl = SampledValues::Like(rows.rows);
  RETURN_IF_ERROR(crew.ForEach(plan, [&](int, int32_t m) {
    return ComputeTokenKl(model, rows, plan.microbatches[m], math, kl);
  }));
  RETURN_IF_ERROR(crew.Share(kl.values));
  const double coefficient = math.algorithm.kl.coefficient;
  double sum = 0;
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    for (size_t t = kl.first[i]; t < kl.first[i + 1]; ++t) {
      sum += kl.values[t];
      if (by_token) {
        input.token_reward.push_back(-coefficient * kl.values[t]);
      } else {
        input.reward[i] -= coefficient * kl.values[t];
      }
    }
  }
  return sum / std::max(static_cast<double>(kl.values.size()), 1.0);
}

}  // namespace tramontane
