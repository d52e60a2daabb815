#include "trainer/learner/learner.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/algorithm_rules.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/transformer.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/critic.h"
#include "trainer/learner/gradient_sum.h"
#include "trainer/learner/learner_metrics.h"
#include "trainer/learner/learner_state.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/optimiser_state.h"
#include "trainer/learner/packing.h"
#include "trainer/learner/phase_timer.h"
#include "trainer/learner/reference_model.h"
#include "trainer/learner/reward_kl.h"
#include "trainer/learner/schedule.h"
#include "trainer/learner/step_inputs.h"
#include "trainer/learner/train_rows.h"
#include "trainer/learner/weight_snapshot.h"
#include "trainer/learner/worker_pool.h"

namespace tramontane {
namespace {

// Cross-entropy as a point in the same space: mean over completion tokens.
AlgorithmConfig SftAlgorithm() {
  AlgorithmConfig algorithm;
  algorithm.objective.kind = "nll";
  algorithm.objective.ratio = "none";
  return algorithm;
}

// Names and tensors in the optimiser's order (that of Module::parameters()).
NamedParameters NamesOf(const Transformer& model) {
  NamedParameters parameters;
  for (const auto& item : model.named_parameters())
    parameters.emplace_back(item.key(), item.value());
  return parameters;
}

struct UpdateRule {
  double learning_rate, weight_decay, max_grad_norm;
};

}  // namespace

class Learner::Impl {
 public:
  Impl(const RunConfig& config, std::shared_ptr<Transformer> model, MetricsRegistry& metrics)
      : config_(config),
        model_(std::move(model)),
        parameters_(ParametersOf(*model_)),
        optimiser_(parameters_, {config.trainer.adam_beta1, config.trainer.adam_beta2,
                                 config.trainer.adam_epsilon}),
        // One ATen thread per worker: parallelism is across microbatches.
        workers_(config.trainer.threads, [] { at::set_num_threads(1); }),
        metrics_(metrics) {
    state_.entropy = EntropyControl::Start(config.algorithm.entropy);
    if (NeedsReferenceModel(config.algorithm))
      reference_ = std::make_unique<ReferenceModel>(*model_);
    if (NeedsCritic(config.algorithm))
      critic_ = std::make_unique<Critic>(*model_, config, workers_);
    metrics_.SetReferenceBytes(reference_ != nullptr ? reference_->bytes() : 0);
    metrics_.SetCriticBytes(critic_ != nullptr ? critic_->bytes() : 0);
    for (int i = 0; i < workers_.size(); ++i) gradients_.push_back(MakeFlatLike(parameters_));
  }

  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step);
  absl::StatusOr<StepReport> SftStep(const std::vector<SftExample>& examples, int64_t step);

  Transformer& model() const { return *model_; }
  const RunConfig& config() const { return config_; }
  void ResetOptimiser() { optimiser_.Reset(); }
  absl::Status SaveState(const std::string& dir) const;
  absl::Status LoadState(const std::string& dir);

 private:
  static std::vector<at::Tensor> ParametersOf(Transformer& model) {
    std::vector<at::Tensor> parameters = model.parameters();
    for (at::Tensor& parameter : parameters) parameter.set_requires_grad(true);
    return parameters;
  }

  absl::Status StartAnew(const RunConfig& now, int64_t step);
  PackPlan Plan(std::span<const TrainRow> rows, const std::vector<uint8_t>& kept) const;
  absl::Status UpdatePolicy(const AdvantageInput& input, const std::vector<uint8_t>& kept,
                            StepMath math, const UpdateRule& rule, StepRows& rows,
                            PhaseTimer& timer, StepReport& report);
  absl::Status Update(const StepRows& rows, const std::vector<uint8_t>& kept, const StepMath& math,
                      const UpdateRule& rule, PhaseTimer& timer, MicrobatchOutput& total,
                      StepReport& report);
  absl::Status ApplyGradient(const UpdateRule& rule, PhaseTimer& timer, StepReport& report);
  absl::Status TeachCritic(CriticLesson lesson, PhaseTimer& timer, StepReport& report);

  const RunConfig config_;
  const std::shared_ptr<Transformer> model_;
  const std::vector<at::Tensor> parameters_;
  AdamW optimiser_;
  LearnerState state_;
  std::unique_ptr<ReferenceModel> reference_;  // null unless algorithm.kl compares with a copy
  WorkerPool workers_;
  std::unique_ptr<Critic> critic_;     // null unless advantages are measured from values
  std::vector<FlatTensor> gradients_;  // one per worker; the sum ends in the first
  LearnerMetrics metrics_;
};

PackPlan Learner::Impl::Plan(std::span<const TrainRow> rows,
                             const std::vector<uint8_t>& kept) const {
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < rows.size(); ++i) lengths.push_back(kept[i] ? rows[i].input_tokens() : 0);
  return PackSequences(lengths, config_.trainer.microbatch_tokens, workers_.size());
}

// Sums, checks, clips and applies. A non-finite loss or norm leaves weights and moments alone.
absl::Status Learner::Impl::ApplyGradient(const UpdateRule& rule, PhaseTimer& timer,
                                          StepReport& report) {
  return GuardTorch([&] {
    report.grad_norm = ReduceGradients(gradients_);
    if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
      report.skipped = report.nonfinite = true;
      report.skip_reason =
          std::isfinite(report.loss) ? "gradient norm is not finite" : "loss is not finite";
      timer.Next("reduce");
      return;
    }
    ClipGradient(gradients_[0], report.grad_norm, rule.max_grad_norm);
    timer.Next("reduce");
    optimiser_.Step(gradients_[0].views, rule.learning_rate, rule.weight_decay);
    const at::NoGradGuard no_grad;
    for (const at::Tensor& parameter : parameters_) {
      TORCH_CHECK(std::isfinite(parameter.sum().item<double>()),
                  "weights are not finite after step ", report.step);
    }
    timer.Next("optimiser");
  });
}

// One update from the kept rows.
absl::Status Learner::Impl::Update(const StepRows& rows, const std::vector<uint8_t>& kept,
                                   const StepMath& math, const UpdateRule& rule, PhaseTimer& timer,
                                   MicrobatchOutput& total, StepReport& report) {
  const PackPlan plan = Plan(rows.rows, kept);
  report.learning_rate = rule.learning_rate;
  report.packed_tokens += plan.tokens;
  for (size_t i = 0; i < kept.size(); ++i) {
    report.sequences += kept[i];
    report.response_tokens += kept[i] ? rows.rows[i].sampled_tokens() : 0;
  }
  timer.Next("pack");
  if (plan.microbatches.empty()) {
    report.skipped = true;
    report.skip_reason =
        "no tokens to train on: every group was filtered, without a score, or empty";
    return absl::OkStatus();
  }
  const double before = total.loss;
  std::vector<MicrobatchOutput> outputs(plan.microbatches.size());
  RETURN_IF_ERROR(ComputeGradients(
      workers_, plan, gradients_, [&](int32_t m, const std::vector<at::Tensor>& gradient) {
        return ComputeMicrobatch(*model_, parameters_, rows, plan.microbatches[m], math, gradient,
                                 outputs[m]);
      }));
  for (const MicrobatchOutput& output : outputs) total.Add(output);
  timer.Next("forward_backward");
  report.loss = total.loss - before;
  report.metrics["microbatches"] += static_cast<double>(plan.microbatches.size());
  return ApplyGradient(rule, timer, report);
}

// trainer.updates_per_step updates, each from its minibatch. Loss and gradient norm are their
// means.
absl::Status Learner::Impl::UpdatePolicy(const AdvantageInput& input,
                                         const std::vector<uint8_t>& kept, StepMath math,
                                         const UpdateRule& rule, StepRows& rows, PhaseTimer& timer,
                                         StepReport& report) {
  const AlgorithmConfig& a = math.algorithm;
  const auto minibatches = SplitKept(input, kept, config_.trainer.updates_per_step);
  if (minibatches.size() > 1 && a.correction.anchor == "recomputed") {
    rows.proximal = SampledValues::Like(rows.rows);
    const PackPlan plan = Plan(rows.rows, kept);
    RETURN_IF_ERROR(ForEachMicrobatch(workers_, plan, [&](int32_t m) {
      return ComputeLogprobs(*model_, rows, plan.microbatches[m], rows.proximal);
    }));
    timer.Next("anchor");
  }
  MicrobatchOutput total;
  double loss = 0, grad_norm = 0, updates = 0;
  for (const std::vector<uint8_t>& part : minibatches) {
    rows.token_weight = TokenWeights(input.group, input.tokens, part, a.aggregation, a.conventions);
    if (a.auxiliary.positive_nll != 0) {
      rows.positive_weight = PositiveTokenWeights(input.correct, input.tokens, part);
    }
    RETURN_IF_ERROR(Update(rows, part, math, rule, timer, total, report));
    if (report.skipped) break;
    loss += report.loss;
    grad_norm += report.grad_norm;
    updates += 1;
    math.version = -1;  // the weights are no version's from here on: there is no gap to measure
  }
  if (updates > 0) {
    report.skipped = false;  // a later minibatch may have been
    report.loss = loss / updates;
    report.grad_norm = grad_norm / updates;
  }
  report.metrics["updates"] = updates;
  if (total.sums.tokens > 0) ReportSums(total, a, report);
  return absl::OkStatus();
}

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
      reference_->CopyFrom(*model_);
      state_.reference_version = step - 1;
    }
  });
}

absl::Status Learner::Impl::TeachCritic(CriticLesson lesson, PhaseTimer& timer,
                                        StepReport& report) {
  ASSIGN_OR_RETURN(const CriticReport learnt, critic_->Learn(lesson));
  ReportCritic(learnt, report);
  timer.Next("critic");
  return absl::OkStatus();
}

absl::StatusOr<StepReport> Learner::Impl::Step(const std::vector<Group>& groups, int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  const RunConfig now = ConfigAtStep(config_, step);
  for (const Group& group : groups) RETURN_IF_ERROR(CheckGroup(group, model_->config().vocab_size));
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(groups));
  RETURN_IF_ERROR(StartAnew(now, step));
  // Steps of the policy's own: its warm-up begins when it begins to learn.
  const int64_t policy_step = step - now.critic.pretrain_steps;
  StepMath math = {now.algorithm, reference_ != nullptr ? &reference_->model() : nullptr, step - 1};
  AlgorithmConfig& algorithm = math.algorithm;
  algorithm.filter = FilterAtStep(config_, step);
  algorithm.entropy.coefficient = state_.entropy.Applied(now.algorithm.entropy);
  // The critic learns values by itself; it shares no weights with the policy.
  algorithm.auxiliary.value_coefficient = 0;
  algorithm.auxiliary.value_clip.reset();
  if (policy_step < 1) algorithm.advantage.lambda_value = 1;  // returns, whatever the critic says

  StepRows rows;
  rows.rows = collected.rows;
  AdvantageInput input = MakeAdvantageInput(collected.rows, now.trainer.updates_per_step);
  SampledValues values;
  if (critic_ != nullptr) {
    timer.Next("pack");
    ASSIGN_OR_RETURN(values, critic_->Values(collected.rows));
    input.value = values.values;
    timer.Next("values");
  }
  if (algorithm.kl.kind != "none" && algorithm.kl.where == "reward") {
    const PackPlan plan = Plan(rows.rows, std::vector<uint8_t>(rows.rows.size(), 1));
    timer.Next("pack");
    ASSIGN_OR_RETURN(report.metrics["kl"], ShapeRewardsByKl(*model_, workers_, plan, rows, math,
                                                            critic_ != nullptr, input));
    timer.Next("reference_kl");
  }
  ASSIGN_OR_RETURN(AdvantageResult advantages, ComputeAdvantages(input, algorithm));
  ReportAdvantages(collected, advantages, report);
  if (algorithm.objective.kind == "nll") KeepPositive(advantages);
  rows.advantage = std::move(advantages.advantage);
  if (critic_ != nullptr)
    rows.token_advantage = {std::move(advantages.token_advantage), values.first};
  if (policy_step >= 1) {
    const UpdateRule rule = {
        RlLearningRate(now.trainer, config_.run.max_steps - now.critic.pretrain_steps, policy_step),
        now.trainer.weight_decay, now.trainer.max_grad_norm};
    RETURN_IF_ERROR(UpdatePolicy(input, advantages.kept, math, rule, rows, timer, report));
  } else {
    report.skipped = true;
    report.skip_reason = "value pre-training: the policy is frozen up to step " +
                         std::to_string(now.critic.pretrain_steps);
  }
  if (critic_ != nullptr) {
    const std::vector<size_t> first = values.first;
    RETURN_IF_ERROR(TeachCritic({.rows = rows.rows,
                                 .kept = advantages.kept,
                                 .value_old = std::move(values),
                                 .value_target = {std::move(advantages.value_target), first},
                                 .learning_rate = CriticLearningRate(now.critic, step)},
                                timer, report));
  }
  WarnOfGap(now.trainer.logprob_gap_alarm, report);
  ReportState(algorithm, state_, reference_ != nullptr, report);
  if (!report.skipped && algorithm.entropy.kind != "none") {
    state_.entropy.Observe(now.algorithm.entropy, report.metrics["entropy"]);
  }
  timer.Finish();
  metrics_.Record(report);
  return report;
}

absl::StatusOr<StepReport> Learner::Impl::SftStep(const std::vector<SftExample>& examples,
                                                  int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  ASSIGN_OR_RETURN(const CollectedRows collected, CollectRows(examples));
  const AlgorithmConfig algorithm = SftAlgorithm();
  const std::vector<uint8_t> kept(collected.rows.size(), 1);
  StepRows rows;
  rows.rows = collected.rows;
  rows.advantage.assign(kept.size(), 1.0);
  rows.token_weight = TokenWeights(GroupsOf(collected.rows), SampledTokens(collected.rows), kept,
                                   algorithm.aggregation, algorithm.conventions);
  const UpdateRule rule = {SftLearningRate(config_.sft, step), config_.sft.weight_decay,
                           config_.sft.max_grad_norm};
  MicrobatchOutput total;
  RETURN_IF_ERROR(Update(rows, kept, StepMath{algorithm, nullptr, -1}, rule, timer, total, report));
  if (total.sums.tokens > 0) ReportSums(total, algorithm, report);
  timer.Finish();
  metrics_.Record(report);
  return report;
}

absl::StatusOr<std::unique_ptr<Learner>> Learner::Create(const RunConfig& config,
                                                         std::shared_ptr<Transformer> model,
                                                         MetricsRegistry& metrics) {
  RETURN_IF_ERROR(ValidateAlgorithm(config.algorithm));
  RETURN_IF_ERROR(CheckRunnable(config.algorithm));
  std::unique_ptr<Learner> learner;
  RETURN_IF_ERROR(GuardTorch([&] {
    at::set_num_threads(1);
    learner.reset(new Learner(std::make_unique<Impl>(config, std::move(model), metrics)));
  }));
  return learner;
}

absl::StatusOr<std::unique_ptr<Learner>> Learner::CreateForSft(const RunConfig& config,
                                                               std::shared_ptr<Transformer> model,
                                                               MetricsRegistry& metrics) {
  RunConfig sft = config;
  sft.algorithm = SftAlgorithm();
  sft.schedules.clear();
  return Create(sft, std::move(model), metrics);
}

Learner::Learner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Learner::~Learner() = default;

absl::StatusOr<StepReport> Learner::Step(const std::vector<Group>& groups, int64_t step) {
  return impl_->Step(groups, step);
}

absl::Status Learner::Check(const Group& group) const {
  return CheckGroup(group, std::as_const(*this).model().config().vocab_size);
}

absl::StatusOr<StepReport> Learner::SftStep(const std::vector<SftExample>& examples, int64_t step) {
  return impl_->SftStep(examples, step);
}

absl::Status Learner::Impl::SaveState(const std::string& dir) const {
  RETURN_IF_ERROR(SaveOptimiserState(dir, NamesOf(*model_), optimiser_));
  if (reference_ != nullptr) RETURN_IF_ERROR(reference_->Save(dir));
  if (critic_ != nullptr) RETURN_IF_ERROR(critic_->Save(dir));
  return SaveLearnerState(dir, state_);
}

absl::Status Learner::Impl::LoadState(const std::string& dir) {
  RETURN_IF_ERROR(LoadOptimiserState(dir, NamesOf(*model_), optimiser_));
  if (reference_ != nullptr) RETURN_IF_ERROR(reference_->Load(dir));
  if (critic_ != nullptr) RETURN_IF_ERROR(critic_->Load(dir));
  absl::StatusOr<LearnerState> state = LoadLearnerState(dir);
  if (absl::IsNotFound(state.status()))
    return absl::OkStatus();  // saved before there was such a state
  if (state.ok()) state_ = *state;
  return state.status();
}

absl::Status Learner::SaveState(const std::string& dir) const { return impl_->SaveState(dir); }
absl::Status Learner::LoadState(const std::string& dir) { return impl_->LoadState(dir); }
void Learner::ResetOptimiser() { impl_->ResetOptimiser(); }

WeightManifest Learner::Snapshot(int64_t version, std::vector<char>& payload) const {
  return SnapshotWeights(impl_->model(), version, impl_->config().weights.probe_tolerance, payload);
}

Transformer& Learner::model() { return impl_->model(); }
const Transformer& Learner::model() const { return impl_->model(); }

}  // namespace tramontane
