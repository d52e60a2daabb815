// The supervised kinds of run (sft, distill by logits, dpo) as points in the space of algorithms.
#pragma once

#include <vector>

#include "common/config.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/train_rows.h"

namespace tramontane {

// sft: cross-entropy, mean over completion tokens. distill: KL from the teacher over the vocabulary
// at every completion token, and nll_weight times the cross-entropy. dpo: log-probabilities times
// what trainer/learner/preference.h says, and a copy of the policy to start from as its reference.
AlgorithmConfig SupervisedAlgorithm(const RunConfig& config);

// `reference` as the microbatches compare with it: null for none.
StepMath SupervisedMath(const RunConfig& config, Transformer* reference);

// The rows of sft and distill with their advantages and token weights; of distill `rows` take its
// temperature. `rows` outlives what is returned.
StepRows SupervisedRows(const RunConfig& config, const AlgorithmConfig& algorithm,
                        std::vector<TrainRow>& rows);

}  // namespace tramontane
