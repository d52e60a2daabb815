#include "trainer/learner/supervised.h"

#include "trainer/learner/aggregation.h"
#include "trainer/learner/step_inputs.h"

namespace tramontane {

AlgorithmConfig SupervisedAlgorithm(const RunConfig& config) {
  AlgorithmConfig algorithm;
  algorithm.objective.ratio = "none";
  algorithm.objective.kind = "nll";
  if (config.run.kind == "distill") {
    algorithm.objective.kind = "pg";  // of advantage nll_weight
    algorithm.kl.kind = "full";
    algorithm.kl.coefficient = 1;
    algorithm.kl.reference = "teacher";
  } else if (config.run.kind == "dpo") {
    algorithm.objective.kind = "pg";
    algorithm.kl.kind = "k1";  // so that a reference is kept
  }
  return algorithm;
}

StepMath SupervisedMath(const RunConfig& config, Transformer* reference) {
  StepMath math = {SupervisedAlgorithm(config), reference, /*version=*/-1};
  if (reference == nullptr) math.algorithm.kl.kind = "none";
  if (config.distill.direction == "forward") math.direction = KlDirection::kForward;
  math.reference_top_k = config.distill.top_k;
  // A preference's weights say how wrong a pair is, not how much of a token to learn.
  if (config.run.kind != "dpo") math.mtp_weight = config.trainer.mtp_weight;
  return math;
}

StepRows SupervisedRows(const RunConfig& config, const AlgorithmConfig& algorithm,
                        std::vector<TrainRow>& rows) {
  const bool distill = config.run.kind == "distill";
  for (TrainRow& row : rows) row.temperature = distill ? config.distill.temperature : 1;
  StepRows shaped;
  shaped.rows = rows;
  shaped.advantage.assign(rows.size(), distill ? config.distill.nll_weight : 1.0);
  shaped.token_weight =
      TokenWeights(GroupsOf(rows), SampledTokens(rows), std::vector<uint8_t>(rows.size(), 1),
                   algorithm.aggregation, algorithm.conventions);
  return shaped;
}

}  // namespace tramontane
