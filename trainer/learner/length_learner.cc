#include "trainer/learner/length_learner.h"

#include <ATen/ATen.h>

#include <cmath>
#include <optional>
#include <utility>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/length_predictor.h"
#include "model/packed_attention.h"
#include "model/transformer.h"
#include "trainer/learner/crew.h"
#include "trainer/learner/learner_metrics.h"
#include "trainer/learner/model_flop.h"
#include "trainer/learner/optimiser.h"
#include "trainer/learner/packed_rows.h"
#include "trainer/learner/phase_timer.h"
#include "trainer/learner/schedule.h"

namespace tramontane {
namespace {

// Forward, and twice as much backward, is what a training step of the whole model costs.
constexpr double kForwardShare = 1.0 / 3;

// Rows of a step; spans point into the examples and into `context`.
struct LengthRows {
  std::vector<TrainRow> rows;
  std::vector<TokenSpan> context;
  SampledValues lengths;
  double tokens = 0;
};

LengthRows RowsOf(const std::vector<LengthExample>& examples) {
  LengthRows made;
  made.context.reserve(examples.size());
  for (const LengthExample& example : examples) {
    made.context.push_back({0, example.first_thought});
    TrainRow row;
    row.prompt = example.prompt_tokens;
    row.response = example.response_tokens;
    if (example.first_thought > 0) row.injected = {&made.context.back(), 1};
    made.rows.push_back(row);
  }
  made.lengths = SampledValues::Like(made.rows);
  for (size_t r = 0; r < examples.size(); ++r) {
    size_t at = made.lengths.first[r];
    for (size_t i = static_cast<size_t>(examples[r].first_thought);
         i < examples[r].response_tokens.size(); ++i)
      made.lengths.values[at++] = static_cast<double>(examples[r].LengthAt(i));
  }
  made.tokens = static_cast<double>(made.lengths.values.size());
  return made;
}

// Sums over a microbatch's tokens.
struct LengthSums {
  double nll = 0, error = 0, sure = 0;
};

}  // namespace

class LengthLearner::Impl {
 public:
  Impl(const RunConfig& config, std::shared_ptr<Transformer> model, MetricsRegistry& metrics)
      : sft_(config.sft),
        microbatch_tokens_(config.trainer.microbatch_tokens),
        model_(std::move(model)),
        predictor_(model_->config()),
        crew_(config.trainer.threads, nullptr),
        metrics_(metrics),
        error_(metrics.MakeGauge("tramontane_trainer_length_error")),
        sure_(metrics.MakeGauge("tramontane_trainer_length_sure_ratio")) {
    optimiser_.emplace(std::make_unique<WholeWeights>(predictor_.Names()), config.trainer, crew_);
  }

  absl::StatusOr<StepReport> Step(const std::vector<LengthExample>& examples, int64_t step) {
    StepReport report;
    report.step = step;
    PhaseTimer timer(report);
    const LengthRows rows = RowsOf(examples);
    const PackPlan plan = Plan(rows);
    Describe(rows, plan, report);
    timer.Next("pack");
    std::vector<LengthSums> sums(plan.microbatches.size());
    RETURN_IF_ERROR(optimiser_->Accumulate(plan, [&](int32_t m, const Backward& backward) {
      return GuardTorch([&] { sums[m] = Compute(rows, plan.microbatches[m], backward); });
    }));
    RETURN_IF_ERROR(crew_.Share(plan, sums));
    timer.Next("forward_backward");
    LengthSums total;
    for (const LengthSums& part : sums) {
      total.nll += part.nll;
      total.error += part.error;
      total.sure += part.sure;
    }
    report.loss = total.nll / rows.tokens;
    report.metrics["length_error"] = total.error / rows.tokens;
    report.metrics["length_sure"] = total.sure / rows.tokens;
    RETURN_IF_ERROR(Apply(timer, report));
    timer.Finish();
    Record(report);
    return report;
  }

  absl::StatusOr<double> HeldOutLoss(const std::vector<LengthExample>& examples) const {
    const LengthRows rows = RowsOf(examples);
    double nll = 0;
    for (const std::vector<int32_t>& members : Plan(rows).microbatches) {
      RETURN_IF_ERROR(GuardTorch([&] {
        const at::NoGradGuard frozen;
        nll += Compute(rows, members, [](const at::Tensor&) {}).nll;
      }));
    }
    return nll / rows.tokens;
  }

  absl::Status Save(const std::string& dir) const {
    RETURN_IF_ERROR(predictor_.Save(dir));
    return optimiser_->Save(dir);
  }

  absl::Status Load(const std::string& dir) {
    ASSIGN_OR_RETURN(const std::shared_ptr<LengthPredictor> saved,
                     LengthPredictor::Load(dir, model_->config()));
    RETURN_IF_ERROR(GuardTorch([&] {
      const at::NoGradGuard no_grad;
      const NamedParameters from = saved->Names(), to = predictor_.Names();
      for (size_t i = 0; i < to.size(); ++i) at::Tensor(to[i].second).copy_(from[i].second);
    }));
    return optimiser_->Load(dir);
  }

  const LengthPredictor& predictor() const { return predictor_; }
  const Transformer& model() const { return *model_; }

 private:
  PackPlan Plan(const LengthRows& rows) const {
    return crew_.Plan(rows.rows, std::vector<uint8_t>(rows.rows.size(), 1), microbatch_tokens_);
  }

  void Describe(const LengthRows& rows, const PackPlan& plan, StepReport& report) const {
    std::vector<SequencePass> passes;
    for (const TrainRow& row : rows.rows) {
      passes.push_back(
          {.inputs = row.input_tokens(), .responses = static_cast<int64_t>(row.response.size())});
      report.input_tokens += row.input_tokens();
    }
    report.sequences = static_cast<int64_t>(rows.rows.size());
    report.response_tokens = static_cast<int64_t>(rows.tokens);
    report.packed_tokens = plan.tokens;
    report.metrics["microbatches"] = static_cast<double>(plan.microbatches.size());
    report.metrics["model_flop"] = kForwardShare * TrainingFlop(model_->config(), passes);
  }

  LengthSums Compute(const LengthRows& rows, const std::vector<int32_t>& members,
                     const Backward& backward) const {
    const PackedRows packed = PackRows(rows.rows, members);
    const at::Tensor masked_R = InjectedMask(rows.rows, members, packed.responses());
    at::Tensor hidden_RD, lengths_R = ScatterSampled(rows.rows, members, rows.lengths);
    at::Tensor targets_R = packed.targets_R;
    {
      const at::NoGradGuard frozen;
      PackedAttention attention(packed.offsets);
      hidden_RD = model_->Forward(packed.tokens_T, packed.positions_T, attention)
                      .index_select(0, packed.hidden_rows_R);
    }
    if (masked_R.defined()) {
      const at::Tensor learnt = masked_R.logical_not().nonzero().squeeze(-1);
      hidden_RD = hidden_RD.index_select(0, learnt);
      lengths_R = lengths_R.index_select(0, learnt);
      targets_R = targets_R.index_select(0, learnt);
    }
    const LengthGammas gammas = predictor_.Of(hidden_RD, targets_R);
    const at::Tensor nll = LengthNll(gammas, lengths_R).sum();
    LengthSums sums;
    sums.nll = nll.item<double>();
    {
      const at::NoGradGuard counted;
      sums.error = (gammas.shape / gammas.rate - lengths_R.log1p()).abs().sum().item<double>();
      sums.sure = SureOfLength(gammas).sum().item<double>();
    }
    backward(nll / rows.tokens);
    return sums;
  }

  absl::Status Apply(PhaseTimer& timer, StepReport& report) {
    report.learning_rate = SftLearningRate(sft_, report.step);
    ASSIGN_OR_RETURN(report.grad_norm, optimiser_->Reduce());
    if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
      report.skipped = report.nonfinite = true;
      report.skip_reason = "the length predictor's loss or gradient is not finite";
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(optimiser_->Apply(report.grad_norm, {.learning_rate = report.learning_rate,
                                                         .weight_decay = sft_.weight_decay,
                                                         .max_grad_norm = sft_.max_grad_norm}));
    timer.Next("optimiser");
    return absl::OkStatus();
  }

  void Record(const StepReport& report) {
    metrics_.Record(report);
    if (report.skipped) return;
    error_.Set(report.metrics.at("length_error"));
    sure_.Set(report.metrics.at("length_sure"));
  }

  const SftSection sft_;
  const int64_t microbatch_tokens_;
  const std::shared_ptr<Transformer> model_;
  LengthPredictor predictor_;
  Crew crew_;
  LearnerMetrics metrics_;
  Gauge error_, sure_;
  std::optional<Optimiser> optimiser_;
};

absl::StatusOr<std::unique_ptr<LengthLearner>> LengthLearner::Create(
    const RunConfig& config, std::shared_ptr<Transformer> model, MetricsRegistry& metrics) {
  std::unique_ptr<Impl> impl;
  RETURN_IF_ERROR(
      GuardTorch([&] { impl = std::make_unique<Impl>(config, std::move(model), metrics); }));
  return std::unique_ptr<LengthLearner>(new LengthLearner(std::move(impl)));
}

LengthLearner::LengthLearner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LengthLearner::~LengthLearner() = default;

absl::StatusOr<StepReport> LengthLearner::Step(const std::vector<LengthExample>& examples,
                                               int64_t step) {
  return impl_->Step(examples, step);
}
absl::StatusOr<double> LengthLearner::HeldOutLoss(
    const std::vector<LengthExample>& examples) const {
  return impl_->HeldOutLoss(examples);
}
absl::Status LengthLearner::Save(const std::string& dir) const { return impl_->Save(dir); }
absl::Status LengthLearner::Load(const std::string& dir) { return impl_->Load(dir); }
absl::Status LengthLearner::SavePredictor(const std::string& dir) const {
  return impl_->predictor().Save(dir);
}
const Transformer& LengthLearner::model() const { return impl_->model(); }

}  // namespace tramontane
