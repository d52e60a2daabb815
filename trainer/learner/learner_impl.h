// What a Learner holds. Included by learner.cc (its life, its state on disk) and learner_step.cc (a
// step) alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "trainer/learner/crew.h"
#include "trainer/learner/critic.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/learner_metrics.h"
#include "trainer/learner/learner_state.h"
#include "trainer/learner/optimiser.h"
#include "trainer/learner/phase_timer.h"
#include "trainer/learner/policy_update.h"
#include "trainer/learner/policy_weights.h"
#include "trainer/learner/preference.h"
#include "trainer/learner/reference_model.h"
#include "trainer/learner/train_rows.h"

namespace tramontane {

class Learner::Impl {
 public:
  // All ranks have rank 0's weights already. `teacher`: null unless algorithm.kl compares with one.
  Impl(const RunConfig& config, std::shared_ptr<Transformer> model, PolicyWeights policy,
       std::shared_ptr<Transformer> teacher, MetricsRegistry& metrics, RankGroup* ranks);

  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step);
  absl::StatusOr<StepReport> SftStep(const std::vector<SftExample>& examples, int64_t step);
  absl::StatusOr<StepReport> DpoStep(const std::vector<PreferencePair>& pairs, int64_t step);
  absl::StatusOr<double> HeldOutLoss(const std::vector<SftExample>& examples);
  absl::StatusOr<double> HeldOutLoss(const std::vector<PreferencePair>& pairs);
  absl::Status Check(const Group& group) const { return CheckGroup(group, Limits()); }
  absl::Status SaveState(const std::string& dir) const;
  absl::Status LoadState(const std::string& dir);

  Transformer& model() const { return *model_; }
  const RunConfig& config() const { return config_; }
  RankGroup* ranks() const { return crew_.ranks(); }

 private:
  // The numbers of one step's rows on their way to advantages.
  struct Inputs {
    StepRows rows;
    AdvantageInput advantage;
    SampledValues values;  // the critic's; empty without one
  };

  RowLimits Limits() const;
  absl::Status StartAnew(const RunConfig& now, int64_t step);
  void Share(CollectedRows& collected) const;
  StepMath MathAt(const RunConfig& now, int64_t step) const;
  absl::StatusOr<Inputs> MakeInputs(const CollectedRows& collected, const RunConfig& now,
                                    const StepMath& math, PhaseTimer& timer, StepReport& report);
  absl::Status TeachPolicy(Inputs& inputs, const std::vector<uint8_t>& kept, const RunConfig& now,
                           const StepMath& math, PhaseTimer& timer, StepReport& report);
  absl::Status TeachCritic(Inputs& inputs, AdvantageResult& advantages, const RunConfig& now,
                           PhaseTimer& timer, StepReport& report);
  absl::StatusOr<PreferenceLoss> Preference(const CollectedRows& collected);
  absl::Status UpdateSupervised(const StepRows& rows, const StepMath& math, PhaseTimer& timer,
                                StepReport& report);
  void Finish(PhaseTimer& timer, const RankTraffic& before, StepReport& report);
  RankTraffic Traffic() const;
  absl::Status LoadAdapters(const std::string& dir);

  const RunConfig config_;
  const std::shared_ptr<Transformer> model_;    // what is saved and published
  const std::shared_ptr<Transformer> compute_;  // what steps run; the same, unless in bfloat16
  LoraWeights* const lora_;                     // the optimiser's; null without adapters
  Crew crew_;
  Optimiser optimiser_;
  PolicyUpdate update_;
  LearnerState state_;
  std::unique_ptr<ReferenceModel> reference_;  // null unless algorithm.kl compares with a copy
  std::unique_ptr<Critic> critic_;             // null unless advantages are measured from values
  LearnerMetrics metrics_;
  double peak_flops_ = 1;  // of all ranks; trainer/learner/model_flop.h
};

}  // namespace tramontane
