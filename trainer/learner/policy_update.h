// The policy's part of a step: optimiser updates from the rows that were kept. One thread, the same
// calls on every rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/crew.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/optimiser.h"
#include "trainer/learner/phase_timer.h"

namespace tramontane {

class PolicyUpdate {
 public:
  // All outlive it.
  PolicyUpdate(Transformer& model, Optimiser& optimiser, Crew& crew, const TrainerSection& trainer)
      : model_(model), optimiser_(optimiser), crew_(crew), trainer_(trainer) {}

  // Microbatches of the rows with kept[i].
  PackPlan Plan(std::span<const TrainRow> rows, const std::vector<uint8_t>& kept) const;

  // One update. What its microbatches say is added to `total`; without tokens, or with a loss or
  // norm that is not finite, weights and moments stay and the report is skipped.
  absl::Status Once(const StepRows& rows, const std::vector<uint8_t>& kept, const StepMath& math,
                    const UpdateRule& rule, PhaseTimer& timer, MicrobatchOutput& total,
                    StepReport& report);

  // trainer.updates_per_step updates, each from its minibatch. Loss and gradient norm are their
  // means.
  absl::Status InMinibatches(const AdvantageInput& input, const std::vector<uint8_t>& kept,
                             StepMath math, const UpdateRule& rule, StepRows& rows,
                             PhaseTimer& timer, StepReport& report);

 private:
  absl::Status Apply(const UpdateRule& rule, PhaseTimer& timer, StepReport& report);
  absl::Status CheckWeights(int64_t step) const;

  Transformer& model_;
  Optimiser& optimiser_;
  Crew& crew_;
  const TrainerSection& trainer_;
};

}  // namespace tramontane
