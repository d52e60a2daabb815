// One step: rows, values, shaped rewards, advantages, the policy's updates, the critic's.
#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/transformer.h"
#include "trainer/learner/learner_impl.h"
#include "trainer/learner/reward_kl.h"
#include "trainer/learner/schedule.h"
#include "trainer/learner/shared_inputs.h"
#include "trainer/learner/step_inputs.h"
#include "trainer/learner/supervised.h"
#include "trainer/learner/train_rows.h"

namespace tramontane {
namespace {

// Steps of the policy's own: its warm-up begins when it begins to learn.
int64_t PolicyStep(const RunConfig& now, int64_t step) { return step - now.critic.pretrain_steps; }

}  // namespace

// What an interval of steps ends: moments, and the policy that KL is measured from. Before the
// step, so that a run that is resumed at a checkpoint does the same.
absl::Status Learner::Impl::StartAnew(const RunConfig& now, int64_t step) {
  const auto due = [&](int64_t interval) {
    return interval > 0 && step > 1 && (step - 1) % interval == 0;
  };
  return GuardTorch([&] {
    if (due(now.trainer.optimiser_reset_interval_steps)) optimiser_.Reset();
    const KlConfig& kl = now.algorithm.kl;
    if (reference_ != nullptr && kl.reference == "reset_every_n" && due(kl.reset_interval_steps)) {
      reference_->CopyFrom(*compute_);
      state_.reference_version = step - 1;
    }
  });
}

// Where the model gives a position the same angles whatever its sequence's length.
void Learner::Impl::Share(CollectedRows& collected) const {
  const auto dynamic = [](const Transformer& model) {
    return model.config().rope_scaling.kind == "dynamic";
  };
  if (!config_.trainer.share_prompts || dynamic(*compute_)) return;
  if (reference_ != nullptr && dynamic(reference_->model())) return;
  ShareInputs({.routes = config_.trainer.router_replay, .next = config_.trainer.mtp_weight > 0},
              collected.rows);
}

StepMath Learner::Impl::MathAt(const RunConfig& now, int64_t step) const {
  StepMath math = {now.algorithm, reference_ != nullptr ? &reference_->model() : nullptr, step - 1,
                   config_.trainer.mtp_weight};
  AlgorithmConfig& algorithm = math.algorithm;
  algorithm.filter = FilterAtStep(config_, step);
  algorithm.entropy.coefficient = state_.entropy.Applied(now.algorithm.entropy);
  // The critic learns values by itself; it shares no weights with the policy.
  algorithm.auxiliary.value_coefficient = 0;
  algorithm.auxiliary.value_clip.reset();
  // Returns, whatever the critic says, while it is pre-trained.
  if (PolicyStep(now, step) < 1) algorithm.advantage.lambda_value = 1;
  return math;
}

absl::StatusOr<Learner::Impl::Inputs> Learner::Impl::MakeInputs(const CollectedRows& collected,
                                                                const RunConfig& now,
                                                                const StepMath& math,
                                                                PhaseTimer& timer,
                                                                StepReport& report) {
  Inputs inputs;
  inputs.rows.rows = collected.rows;
  inputs.rows.replay_routes = config_.trainer.router_replay;
  inputs.advantage = MakeAdvantageInput(collected.rows, now.trainer.updates_per_step);
  for (double& reward : inputs.advantage.reward) reward *= math.algorithm.advantage.reward_weight;
  if (critic_ != nullptr) {
    timer.Next("pack");
    ASSIGN_OR_RETURN(inputs.values, critic_->Values(collected.rows));
    inputs.advantage.value = inputs.values.values;
    timer.Next("values");
  }
  if (math.algorithm.kl.kind != "none" && math.algorithm.kl.where != "loss") {
    const bool by_token = critic_ != nullptr || math.algorithm.kl.where == "token_advantage";
    const PackPlan plan =
        update_.Plan(collected.rows, std::vector<uint8_t>(collected.rows.size(), 1));
    timer.Next("pack");
    ASSIGN_OR_RETURN(report.metrics["kl"],
                     ShapeRewardsByKl(*compute_, crew_, plan, inputs.rows, math, by_token,
                                      inputs.advantage));
    timer.Next("reference_kl");
  }
  return inputs;
}

absl::Status Learner::Impl::TeachPolicy(Inputs& inputs, const std::vector<uint8_t>& kept,
                                        const RunConfig& now, const StepMath& math,
                                        PhaseTimer& timer, StepReport& report) {
  const int64_t policy_step = PolicyStep(now, report.step);
  if (policy_step < 1) {
    report.skipped = true;
    report.skip_reason = "value pre-training: the policy is frozen up to step " +
                         std::to_string(now.critic.pretrain_steps);
    return absl::OkStatus();
  }
  const UpdateRule rule = {
      RlLearningRate(now.trainer, config_.run.max_steps - now.critic.pretrain_steps, policy_step),
      now.trainer.weight_decay, now.trainer.max_grad_norm};
  return update_.InMinibatches(inputs.advantage, kept, math, rule, inputs.rows, timer, report);
}

absl::Status Learner::Impl::TeachCritic(Inputs& inputs, AdvantageResult& advantages,
                                        const RunConfig& now, PhaseTimer& timer,
                                        StepReport& report) {
  if (critic_ == nullptr) return absl::OkStatus();
  const std::vector<size_t> first = inputs.values.first;
  ASSIGN_OR_RETURN(const CriticReport learnt,
                   critic_->Learn({.rows = inputs.rows.rows,
                                   .kept = advantages.kept,
                                   .value_old = std::move(inputs.values),
                                   .value_target = {std::move(advantages.value_target), first},
                                   .learning_rate = CriticLearningRate(now.critic, report.step)}));
  ReportCritic(learnt, report);
  timer.Next("critic");
  return absl::OkStatus();
}

RankTraffic Learner::Impl::Traffic() const {
  return crew_.ranks() == nullptr ? RankTraffic{} : crew_.ranks()->traffic();
}

void Learner::Impl::Finish(PhaseTimer& timer, const RankTraffic& before, StepReport& report) {
  if (crew_.ranks() != nullptr) {
    const RankTraffic now = Traffic();
    report.metrics["rank_seconds"] = now.seconds - before.seconds;
    report.metrics["rank_bytes"] = now.bytes_moved - before.bytes_moved;
  }
  timer.Finish();
  report.metrics["model_flop_share"] = report.metrics["model_flop"] / report.seconds / peak_flops_;
  metrics_.Record(report);
}

absl::StatusOr<StepReport> Learner::Impl::Step(const std::vector<Group>& groups, int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  const RankTraffic traffic = Traffic();
  const RunConfig now = ConfigAtStep(config_, step);
  for (const Group& group : groups) RETURN_IF_ERROR(Check(group));
  const StepMath math = MathAt(now, step);
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(groups, math.algorithm.filter, step - 1));
  Share(collected);
  RETURN_IF_ERROR(StartAnew(now, step));
  ASSIGN_OR_RETURN(Inputs inputs, MakeInputs(collected, now, math, timer, report));
  ASSIGN_OR_RETURN(AdvantageResult advantages, ComputeAdvantages(inputs.advantage, math.algorithm));
  ReportAdvantages(collected, advantages, report);
  if (math.algorithm.objective.kind == "nll") KeepPositive(advantages);
  inputs.rows.advantage = std::move(advantages.advantage);
  if (!advantages.token_advantage.empty()) {
    inputs.rows.token_advantage = SampledValues::Like(collected.rows);
    inputs.rows.token_advantage.values = std::move(advantages.token_advantage);
  }
  RETURN_IF_ERROR(TeachPolicy(inputs, advantages.kept, now, math, timer, report));
  RETURN_IF_ERROR(TeachCritic(inputs, advantages, now, timer, report));
  WarnOfGap(now.trainer.logprob_gap_alarm, report);
  ReportState(math.algorithm, state_, reference_ != nullptr, report);
  if (!report.skipped && math.algorithm.entropy.kind != "none") {
    state_.entropy.Observe(now.algorithm.entropy, report.metrics["entropy"]);
  }
  Finish(timer, traffic, report);
  return report;
}

// One update of sft.*'s schedule, from all rows.
absl::Status Learner::Impl::UpdateSupervised(const StepRows& rows, const StepMath& math,
                                             PhaseTimer& timer, StepReport& report) {
  const UpdateRule rule = {SftLearningRate(config_.sft, report.step), config_.sft.weight_decay,
                           config_.sft.max_grad_norm};
  MicrobatchOutput total;
  const std::vector<uint8_t> kept(rows.rows.size(), 1);
  RETURN_IF_ERROR(update_.Once(rows, kept, math, rule, timer, total, report));
  if (total.sums.tokens > 0) ReportSums(total, math.algorithm, report);
  return absl::OkStatus();
}

absl::StatusOr<StepReport> Learner::Impl::SftStep(const std::vector<SftExample>& examples,
                                                  int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  const RankTraffic traffic = Traffic();
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(examples));
  const StepMath math = SupervisedMath(config_, reference_ ? &reference_->model() : nullptr);
  const StepRows rows = SupervisedRows(config_, math.algorithm, collected.rows);
  RETURN_IF_ERROR(UpdateSupervised(rows, math, timer, report));
  Finish(timer, traffic, report);
  return report;
}

// A pair's two sums meet in one number, so that number is made first; what is left is a loss that
// is linear in log-probabilities, whose rows may be packed in any way.
absl::StatusOr<PreferenceLoss> Learner::Impl::Preference(const CollectedRows& collected) {
  StepRows rows;
  rows.rows = collected.rows;
  const PackPlan plan = update_.Plan(rows.rows, std::vector<uint8_t>(rows.rows.size(), 1));
  SampledValues policy = SampledValues::Like(rows.rows), reference = policy;
  RETURN_IF_ERROR(crew_.ForEach(plan, [&](int, int32_t m) {
    RETURN_IF_ERROR(ComputeLogprobs(*compute_, rows, plan.microbatches[m], policy));
    return ComputeLogprobs(reference_->model(), rows, plan.microbatches[m], reference);
  }));
  RETURN_IF_ERROR(crew_.Share(policy.values));
  RETURN_IF_ERROR(crew_.Share(reference.values));
  return ComputePreferenceLoss(policy.values, reference.values, SampledTokens(collected.rows),
                               config_.dpo);
}

absl::StatusOr<StepReport> Learner::Impl::DpoStep(const std::vector<PreferencePair>& pairs,
                                                  int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  const RankTraffic traffic = Traffic();
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(pairs));
  Share(collected);
  ASSIGN_OR_RETURN(PreferenceLoss preference, Preference(collected));
  timer.Next("reference");
  StepRows rows;
  rows.rows = collected.rows;
  rows.advantage = std::move(preference.advantage);
  rows.token_weight = std::move(preference.token_weight);
  RETURN_IF_ERROR(UpdateSupervised(rows, SupervisedMath(config_, nullptr), timer, report));
  if (!report.nonfinite) report.loss = preference.loss;
  report.metrics.merge(preference.metrics);
  Finish(timer, traffic, report);
  return report;
}

absl::StatusOr<double> Learner::Impl::HeldOutLoss(const std::vector<PreferencePair>& pairs) {
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(pairs));
  Share(collected);
  ASSIGN_OR_RETURN(const PreferenceLoss preference, Preference(collected));
  return preference.loss;
}

// The step's own microbatches, whose losses are added up and not learnt from.
absl::StatusOr<double> Learner::Impl::HeldOutLoss(const std::vector<SftExample>& examples) {
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(examples));
  StepMath math = SupervisedMath(config_, reference_ ? &reference_->model() : nullptr);
  math.mtp_weight = 0;
  const StepRows rows = SupervisedRows(config_, math.algorithm, collected.rows);
  const PackPlan plan = update_.Plan(rows.rows, std::vector<uint8_t>(rows.rows.size(), 1));
  std::vector<MicrobatchOutput> outputs(plan.microbatches.size());
  RETURN_IF_ERROR(crew_.ForEach(plan, [&](int, int32_t m) {
    const at::NoGradGuard no_grad;
    return ComputeMicrobatch(
        *compute_, rows, plan.microbatches[m], math, [](const at::Tensor&) {}, outputs[m]);
  }));
  RETURN_IF_ERROR(crew_.Share(plan, outputs));
  double loss = 0;
  for (const MicrobatchOutput& output : outputs) loss += output.loss;
  return loss;
}

}  // namespace tramontane
