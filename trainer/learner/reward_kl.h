// kl.where reward and token_advantage: what the distance from the reference policy takes off the
// rewards, before any statistic is taken of them.
#pragma once

#include "absl/status/statusor.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/crew.h"
#include "trainer/learner/microbatch.h"

namespace tramontane {

class Transformer;

// r −= β·Σ_t k_t of each row; with `by_token` (values say what is earned when, or each token
// answers for itself) as token rewards, where the distance arises. Returns the mean k over the
// sampled tokens. `plan` covers all rows.
absl::StatusOr<double> ShapeRewardsByKl(Transformer& model, Crew& crew, const PackPlan& plan,
                                        const StepRows& rows, const StepMath& math, bool by_token,
                                        AdvantageInput& input);

}  // namespace tramontane
