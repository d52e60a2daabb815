#include "trainer/learner/learner.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "common/clock.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/score.h"
#include "model/transformer.h"
#include "model/weights/flatten.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/algorithm_support.h"
#include "trainer/learner/learner_metrics.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/optimiser_state.h"
#include "trainer/learner/packing.h"
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

std::vector<int64_t> ResponseLengths(const std::vector<TrainRow>& rows) {
  std::vector<int64_t> lengths;
  for (const TrainRow& row : rows) lengths.push_back(static_cast<int64_t>(row.response.size()));
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
  input.tokens = ResponseLengths(rows);
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
  for (const auto& item : model.named_parameters()) parameters.emplace_back(item.key(), item.value());
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
        optimiser_(parameters_, {config.trainer.adam_beta1, config.trainer.adam_beta2, config.trainer.adam_epsilon}),
        // One ATen thread per worker: parallelism is across microbatches.
        workers_(config.trainer.threads, [] { at::set_num_threads(1); }),
        metrics_(metrics) {
    for (int i = 0; i < workers_.size(); ++i) gradients_.push_back(MakeFlatLike(parameters_));
  }

  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step);
  absl::StatusOr<StepReport> SftStep(const std::vector<SftExample>& examples, int64_t step);

  Transformer& model() const { return *model_; }
  const RunConfig& config() const { return config_; }
  AdamW& optimiser() { return optimiser_; }
  const AdamW& optimiser() const { return optimiser_; }

 private:
  static std::vector<at::Tensor> ParametersOf(Transformer& model) {
    std::vector<at::Tensor> parameters = model.parameters();
    for (at::Tensor& parameter : parameters) parameter.set_requires_grad(true);
    return parameters;
  }

  absl::Status Update(const StepRows& rows, const std::vector<uint8_t>& kept, const StepMath& math,
                      const UpdateRule& rule, PhaseTimer& timer, StepReport& report);
  absl::Status ForwardBackward(const StepRows& rows, const PackPlan& plan, const StepMath& math,
                               MicrobatchOutput& total);
  absl::Status ApplyGradient(const UpdateRule& rule, PhaseTimer& timer, StepReport& report);

  const RunConfig config_;
  const std::shared_ptr<Transformer> model_;
  const std::vector<at::Tensor> parameters_;
  AdamW optimiser_;
  WorkerPool workers_;
  std::vector<FlatTensor> gradients_;  // one per worker; the sum ends in the first
  LearnerMetrics metrics_;
};

// Every worker goes through its microbatches in order; the sums are then added in worker order, so
// the result depends on the plan alone, not on timing.
absl::Status Learner::Impl::ForwardBackward(const StepRows& rows, const PackPlan& plan, const StepMath& math,
                                            MicrobatchOutput& total) {
  std::vector<MicrobatchOutput> outputs(plan.microbatches.size());
  std::vector<absl::Status> statuses(plan.workers.size());
  workers_.Run([&](int worker) {
    const auto w = static_cast<size_t>(worker);
    statuses[w] = GuardTorch([&] { gradients_[w].flat.zero_(); });
    for (int32_t m : plan.workers[w]) {
      if (!statuses[w].ok()) return;
      statuses[w] = ComputeMicrobatch(*model_, parameters_, rows, plan.microbatches[m], math, gradients_[w].views,
                                      outputs[m]);
    }
  });
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  for (const MicrobatchOutput& output : outputs) {
    total.loss += output.loss;
    total.sums.Add(output.sums);
    total.gap.Add(output.gap);
    total.gap_stale_kv.Add(output.gap_stale_kv);
    total.forward_seconds += output.forward_seconds;
    total.backward_seconds += output.backward_seconds;
  }
  return absl::OkStatus();
}

// Sums, checks, clips and applies. A non-finite loss or norm leaves weights and moments alone.
absl::Status Learner::Impl::ApplyGradient(const UpdateRule& rule, PhaseTimer& timer, StepReport& report) {
  return GuardTorch([&] {
    const at::NoGradGuard no_grad;
    at::Tensor& gradient = gradients_[0].flat;
    for (size_t w = 1; w < gradients_.size(); ++w) gradient.add_(gradients_[w].flat);
    report.grad_norm = at::linalg_vector_norm(gradient, 2, std::nullopt, false, at::kDouble).item<double>();
    if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
      report.skipped = report.nonfinite = true;
      report.skip_reason = std::isfinite(report.loss) ? "gradient norm is not finite" : "loss is not finite";
      timer.Next("reduce");
      return;
    }
    const double scale = rule.max_grad_norm / (report.grad_norm + 1e-6);
    if (scale < 1) gradient.mul_(scale);
    timer.Next("reduce");
    optimiser_.Step(gradients_[0].views, rule.learning_rate, rule.weight_decay);
    for (const at::Tensor& parameter : parameters_) {
      TORCH_CHECK(std::isfinite(parameter.sum().item<double>()), "weights are not finite after step ", report.step);
    }
    timer.Next("optimiser");
  });
}

absl::Status Learner::Impl::Update(const StepRows& rows, const std::vector<uint8_t>& kept, const StepMath& math,
                                   const UpdateRule& rule, PhaseTimer& timer, StepReport& report) {
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < rows.rows.size(); ++i) lengths.push_back(kept[i] ? rows.rows[i].input_tokens() : 0);
  const PackPlan plan = PackSequences(lengths, config_.trainer.microbatch_tokens, workers_.size());
  report.learning_rate = rule.learning_rate;
  report.packed_tokens = plan.tokens;
  for (size_t i = 0; i < kept.size(); ++i) {
    report.sequences += kept[i];
    report.response_tokens += kept[i] ? static_cast<int64_t>(rows.rows[i].response.size()) : 0;
  }
  timer.Next("pack");
  if (plan.microbatches.empty()) {
    report.skipped = true;
    report.skip_reason = "no tokens to train on: every group was filtered, without a score, or empty";
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

absl::StatusOr<StepReport> Learner::Impl::Step(const std::vector<Group>& groups, int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  ASSIGN_OR_RETURN(CollectedRows collected, CollectRows(groups));
  const AlgorithmConfig& algorithm = config_.algorithm;
  const AdvantageInput input = MakeAdvantageInput(collected.rows);
  ASSIGN_OR_RETURN(AdvantageResult advantages,
                   ComputeAdvantages(input, algorithm.advantage, algorithm.conventions, algorithm.filter));
  ReportAdvantages(collected, advantages, report);
  if (algorithm.objective.kind == "nll") KeepPositive(advantages);

  StepRows rows;
  rows.rows = std::move(collected.rows);
  rows.token_weight =
      TokenWeights(input.group, input.tokens, advantages.kept, algorithm.aggregation, algorithm.conventions);
  if (algorithm.auxiliary.positive_nll != 0) {
    rows.positive_weight = PositiveTokenWeights(input.reward, input.tokens, advantages.kept);
  }
  rows.advantage = std::move(advantages.advantage);
  const UpdateRule rule = {RlLearningRate(config_.trainer, config_.run.max_steps, step),
                           config_.trainer.weight_decay, config_.trainer.max_grad_norm};
  const StepMath math = {algorithm, config_.rollout.temperature, step - 1};
  RETURN_IF_ERROR(Update(rows, advantages.kept, math, rule, timer, report));
  timer.Finish();
  metrics_.Record(report);
  return report;
}

absl::StatusOr<StepReport> Learner::Impl::SftStep(const std::vector<SftExample>& examples, int64_t step) {
  StepReport report;
  report.step = step;
  PhaseTimer timer(report);
  ASSIGN_OR_RETURN(const CollectedRows collected, CollectRows(examples));
  const AlgorithmConfig algorithm = SftAlgorithm();
  const std::vector<uint8_t> kept(collected.rows.size(), 1);
  StepRows rows;
  rows.rows = collected.rows;
  rows.advantage.assign(kept.size(), 1.0);
  rows.token_weight = TokenWeights(GroupsOf(collected.rows), ResponseLengths(collected.rows), kept,
                                   algorithm.aggregation, algorithm.conventions);
  const UpdateRule rule = {SftLearningRate(config_.sft, step), config_.sft.weight_decay, config_.sft.max_grad_norm};
  RETURN_IF_ERROR(Update(rows, kept, StepMath{algorithm, 1.0, -1}, rule, timer, report));
  timer.Finish();
  metrics_.Record(report);
  return report;
}

absl::StatusOr<std::unique_ptr<Learner>> Learner::Create(const RunConfig& config,
                                                         std::shared_ptr<Transformer> model,
                                                         MetricsRegistry& metrics) {
  RETURN_IF_ERROR(ValidateAlgorithm(config.algorithm));
  RETURN_IF_ERROR(CheckSupportedInRun(config.algorithm));
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

absl::Status Learner::SaveState(const std::string& dir) const {
  return SaveOptimiserState(dir, NamesOf(impl_->model()), impl_->optimiser());
}

absl::Status Learner::LoadState(const std::string& dir) {
  return LoadOptimiserState(dir, NamesOf(impl_->model()), impl_->optimiser());
}

void Learner::ResetOptimiser() { impl_->optimiser().Reset(); }

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
