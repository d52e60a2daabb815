#include "trainer/learner/learner.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "common/algorithm_rules.h"
#include "common/clock.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/score.h"
#include "model/transformer.h"
#include "model/weights/flatten.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/learner_metrics.h"
#include "trainer/learner/learner_state.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/optimiser_state.h"
#include "trainer/learner/packing.h"
#include "trainer/learner/reference_model.h"
#include "trainer/learner/schedule.h"
#include "trainer/learner/train_rows.h"
#include "trainer/learner/worker_pool.h"

namespace tramontane {
namespace {

constexpr int kProbeTokens = 24;

// Fixed, spread over the vocabulary, the same for every version of one model.
std::vector<int32_t> ProbeTokens(int64_t vocab_size) {
  std::vector<int32_t> tokens;
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (int i = 0; i < kProbeTokens; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

std::vector<int64_t> SampledTokens(const std::vector<TrainRow>& rows) {
  std::vector<int64_t> lengths;
  for (const TrainRow& row : rows) lengths.push_back(row.sampled_tokens());
  return lengths;
}

std::vector<int64_t> GroupsOf(const std::vector<TrainRow>& rows) {
  std::vector<int64_t> groups;
  for (const TrainRow& row : rows) groups.push_back(row.group);
  return groups;
}

AdvantageInput MakeAdvantageInput(const std::vector<TrainRow>& rows) {
  AdvantageInput input;
  input.group = GroupsOf(rows);
  input.tokens = SampledTokens(rows);
  for (const TrainRow& row : rows) {
    input.reward.push_back(row.reward);
    input.truncated.push_back(row.truncated);
    input.correct.push_back(row.correct);
  }
  return input;
}

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

class PhaseTimer {
 public:
  explicit PhaseTimer(StepReport& report) : report_(report) {}
  void Next(const std::string& finished) {
    const auto now = std::chrono::steady_clock::now();
    report_.phase_seconds[finished] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  void Finish() { report_.seconds = SecondsSince(start_); }

 private:
  StepReport& report_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = start_;
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
    metrics_.SetReferenceBytes(reference_ != nullptr ? reference_->bytes() : 0);
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
  absl::Status ShapeRewardsByKl(const StepRows& rows, const StepMath& math,
                                std::vector<double>& reward, StepReport& report);
  absl::Status Update(const StepRows& rows, const std::vector<uint8_t>& kept, const StepMath& math,
                      const UpdateRule& rule, PhaseTimer& timer, StepReport& report);
  absl::Status ForwardBackward(const StepRows& rows, const PackPlan& plan, const StepMath& math,
                               MicrobatchOutput& total);
  absl::Status ApplyGradient(const UpdateRule& rule, PhaseTimer& timer, StepReport& report);

  const RunConfig config_;
  const std::shared_ptr<Transformer> model_;
  const std::vector<at::Tensor> parameters_;
  AdamW optimiser_;
  LearnerState state_;
  std::unique_ptr<ReferenceModel> reference_;  // null unless algorithm.kl compares with a copy
  WorkerPool workers_;
  std::vector<FlatTensor> gradients_;  // one per worker; the sum ends in the first
  LearnerMetrics metrics_;
};

// Every worker goes through its microbatches in order; the sums are then added in worker order, so
// the result depends on the plan alone, not on timing.
absl::Status Learner::Impl::ForwardBackward(const StepRows& rows, const PackPlan& plan,
                                            const StepMath& math, MicrobatchOutput& total) {
  std::vector<MicrobatchOutput> outputs(plan.microbatches.size());
  std::vector<absl::Status> statuses(plan.workers.size());
  workers_.Run([&](int worker) {
    const auto w = static_cast<size_t>(worker);
    statuses[w] = GuardTorch([&] { gradients_[w].flat.zero_(); });
    for (int32_t m : plan.workers[w]) {
      if (!statuses[w].ok()) return;
      statuses[w] = ComputeMicrobatch(*model_, parameters_, rows, plan.microbatches[m], math,
                                      gradients_[w].views, outputs[m]);
    }
  });
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  for (const MicrobatchOutput& output : outputs) {
    total.loss += output.loss;
    total.sums.Add(output.sums);
    total.gap.Add(output.gap);
    total.gap_stale_kv.Add(output.gap_stale_kv);
    total.mismatch.Add(output.mismatch);
    total.forward_seconds += output.forward_seconds;
    total.backward_seconds += output.backward_seconds;
  }
  return absl::OkStatus();
}

// Sums, checks, clips and applies. A non-finite loss or norm leaves weights and moments alone.
absl::Status Learner::Impl::ApplyGradient(const UpdateRule& rule, PhaseTimer& timer,
                                          StepReport& report) {
  return GuardTorch([&] {
    const at::NoGradGuard no_grad;
    at::Tensor& gradient = gradients_[0].flat;
    for (size_t w = 1; w < gradients_.size(); ++w) gradient.add_(gradients_[w].flat);
    report.grad_norm =
        at::linalg_vector_norm(gradient, 2, std::nullopt, false, at::kDouble).item<double>();
    if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
      report.skipped = report.nonfinite = true;
      report.skip_reason =
          std::isfinite(report.loss) ? "gradient norm is not finite" : "loss is not finite";
      timer.Next("reduce");
      return;
    }
    const double scale = rule.max_grad_norm / (report.grad_norm + 1e-6);
    if (scale < 1) gradient.mul_(scale);
    timer.Next("reduce");
    optimiser_.Step(gradients_[0].views, rule.learning_rate, rule.weight_decay);
    for (const at::Tensor& parameter : parameters_) {
      TORCH_CHECK(std::isfinite(parameter.sum().item<double>()),
                  "weights are not finite after step ", report.step);
    }
    timer.Next("optimiser");
  });
}

absl::Status Learner::Impl::Update(const StepRows& rows, const std::vector<uint8_t>& kept,
                                   const StepMath& math, const UpdateRule& rule, PhaseTimer& timer,
                                   StepReport& report) {
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < rows.rows.size(); ++i)
    lengths.push_back(kept[i] ? rows.rows[i].input_tokens() : 0);
  const PackPlan plan = PackSequences(lengths, config_.trainer.microbatch_tokens, workers_.size());
  report.learning_rate = rule.learning_rate;
  report.packed_tokens = plan.tokens;
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
  MicrobatchOutput total;
  RETURN_IF_ERROR(ForwardBackward(rows, plan, math, total));
  timer.Next("forward_backward");
  report.loss = total.loss;
  RETURN_IF_ERROR(ApplyGradient(rule, timer, report));
  report.metrics["microbatches"] = static_cast<double>(plan.microbatches.size());
  ReportSums(total, math.algorithm, report);
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

// kl.where reward: r −= β·Σ_t k_t, before any statistic is taken.
absl::Status Learner::Impl::ShapeRewardsByKl(const StepRows& rows, const StepMath& math,
                                             std::vector<double>& reward, StepReport& report) {
  if (math.algorithm.kl.kind == "none" || math.algorithm.kl.where != "reward")
    return absl::OkStatus();
  std::vector<int64_t> lengths;
  double tokens = 0, sum = 0;
  for (const TrainRow& row : rows.rows) {
    lengths.push_back(row.input_tokens());
    tokens += static_cast<double>(row.sampled_tokens());
  }
  const PackPlan plan = PackSequences(lengths, config_.trainer.microbatch_tokens, workers_.size());
  std::vector<double> kl(rows.rows.size(), 0.0);
  std::vector<absl::Status> statuses(plan.workers.size());
  workers_.Run([&](int worker) {
    const auto w = static_cast<size_t>(worker);
    for (int32_t m : plan.workers[w]) {
      if (statuses[w].ok()) statuses[w] = SumRowKl(*model_, rows, plan.microbatches[m], math, kl);
    }
  });
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  for (size_t i = 0; i < kl.size(); ++i) {
    reward[i] -= math.algorithm.kl.coefficient * kl[i];
    sum += kl[i];
  }
  report.metrics["kl"] = sum / std::max(tokens, 1.0);
  return absl::OkStatus();
}

absl::StatusOr<StepReport> Learner::Impl::Step(const std::vector<Group>& groups, int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  const RunConfig now = ConfigAtStep(config_, step);
  RETURN_IF_ERROR(StartAnew(now, step));
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(groups));
  StepMath math = {now.algorithm, reference_ != nullptr ? &reference_->model() : nullptr, step - 1};
  math.algorithm.entropy.coefficient = state_.entropy.Applied(now.algorithm.entropy);
  const AlgorithmConfig& algorithm = math.algorithm;

  StepRows rows;
  rows.rows = collected.rows;
  AdvantageInput input = MakeAdvantageInput(collected.rows);
  RETURN_IF_ERROR(ShapeRewardsByKl(rows, math, input.reward, report));
  ASSIGN_OR_RETURN(AdvantageResult advantages, ComputeAdvantages(input, algorithm));
  ReportAdvantages(collected, advantages, report);
  if (algorithm.objective.kind == "nll") KeepPositive(advantages);
  rows.token_weight = TokenWeights(input.group, input.tokens, advantages.kept,
                                   algorithm.aggregation, algorithm.conventions);
  if (algorithm.auxiliary.positive_nll != 0) {
    rows.positive_weight = PositiveTokenWeights(input.reward, input.tokens, advantages.kept);
  }
  rows.advantage = std::move(advantages.advantage);
  const UpdateRule rule = {RlLearningRate(now.trainer, config_.run.max_steps, step),
                           now.trainer.weight_decay, now.trainer.max_grad_norm};
  RETURN_IF_ERROR(Update(rows, advantages.kept, math, rule, timer, report));
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
  RETURN_IF_ERROR(Update(rows, kept, StepMath{algorithm, nullptr, -1}, rule, timer, report));
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

Learner::Learner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Learner::~Learner() = default;

absl::StatusOr<StepReport> Learner::Step(const std::vector<Group>& groups, int64_t step) {
  return impl_->Step(groups, step);
}

absl::StatusOr<StepReport> Learner::SftStep(const std::vector<SftExample>& examples, int64_t step) {
  return impl_->SftStep(examples, step);
}

absl::Status Learner::Impl::SaveState(const std::string& dir) const {
  RETURN_IF_ERROR(SaveOptimiserState(dir, NamesOf(*model_), optimiser_));
  if (reference_ != nullptr) RETURN_IF_ERROR(reference_->Save(dir));
  return SaveLearnerState(dir, state_);
}

absl::Status Learner::Impl::LoadState(const std::string& dir) {
  RETURN_IF_ERROR(LoadOptimiserState(dir, NamesOf(*model_), optimiser_));
  if (reference_ != nullptr) RETURN_IF_ERROR(reference_->Load(dir));
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
  WeightManifest manifest = FlattenWeights(impl_->model(), version, payload);
  manifest.probe_tokens = ProbeTokens(impl_->model().config().vocab_size);
  manifest.probe_logprobs = ScoreTokens(impl_->model(), manifest.probe_tokens);
  manifest.probe_tolerance = impl_->config().weights.probe_tolerance;
  return manifest;
}

Transformer& Learner::model() { return impl_->model(); }
const Transformer& Learner::model() const { return impl_->model(); }

}  // namespace tramontane
