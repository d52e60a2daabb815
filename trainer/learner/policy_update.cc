#include "trainer/learner/policy_update.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/transformer.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/learner_metrics.h"
#include "trainer/learner/model_flop.h"
#include "trainer/learner/shared_inputs.h"
#include "trainer/learner/step_inputs.h"

namespace tramontane {
namespace {

std::vector<SequencePass> PassesOf(std::span<const TrainRow> rows, const PackPlan& plan) {
  std::vector<SequencePass> passes;
  for (const std::vector<int32_t>& members : plan.microbatches) {
    for (size_t n = 0; n < members.size(); ++n) {
      const TrainRow& row = rows[static_cast<size_t>(members[n])];
      passes.push_back({row.input_tokens(), HeldTokens(rows, members, n),
                        static_cast<int64_t>(row.response.size())});
    }
  }
  return passes;
}

// Right answers, but for those that the filter masks.
std::vector<uint8_t> Imitated(const AdvantageInput& input) {
  std::vector<uint8_t> imitated = input.correct;
  for (size_t i = 0; i < input.masked.size(); ++i) imitated[i] &= input.masked[i] == 0;
  return imitated;
}

}  // namespace

PackPlan PolicyUpdate::Plan(std::span<const TrainRow> rows,
                            const std::vector<uint8_t>& kept) const {
  return crew_.Plan(rows, kept, trainer_.microbatch_tokens);
}

// Sums, checks, clips and applies.
absl::Status PolicyUpdate::Apply(const UpdateRule& rule, PhaseTimer& timer, StepReport& report) {
  ASSIGN_OR_RETURN(report.grad_norm, optimiser_.Reduce());
  timer.Next("reduce");
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    report.skipped = report.nonfinite = true;
    report.skip_reason =
        std::isfinite(report.loss) ? "gradient norm is not finite" : "loss is not finite";
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(optimiser_.Apply(report.grad_norm, rule));
  RETURN_IF_ERROR(CheckWeights(report.step));
  timer.Next("optimiser");
  return absl::OkStatus();
}

// Finite, and the same on every rank: a rank that had drifted would spoil all that follows.
absl::Status PolicyUpdate::CheckWeights(int64_t step) const {
  double total = 0;
  RETURN_IF_ERROR(GuardTorch([&] {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& parameter : model_.parameters()) total += parameter.sum().item<double>();
    TORCH_CHECK(std::isfinite(total), "weights are not finite after step ", step);
  }));
  if (crew_.ranks() == nullptr) return absl::OkStatus();
  std::vector<double> totals(static_cast<size_t>(crew_.ranks()->size()));
  totals[static_cast<size_t>(crew_.ranks()->rank())] = total;
  RETURN_IF_ERROR(crew_.Share(totals));
  for (size_t r = 1; r < totals.size(); ++r) {
    if (totals[r] == totals[0]) continue;
    return absl::InternalError("after step " + std::to_string(step) + " rank " + std::to_string(r) +
                               " has other weights than rank 0");
  }
  return absl::OkStatus();
}

absl::Status PolicyUpdate::Once(const StepRows& rows, const std::vector<uint8_t>& kept,
                                const StepMath& math, const UpdateRule& rule, PhaseTimer& timer,
                                MicrobatchOutput& total, StepReport& report) {
  const PackPlan plan = Plan(rows.rows, kept);
  report.learning_rate = rule.learning_rate;
  report.packed_tokens += plan.tokens;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (!kept[i]) continue;
    ++report.sequences;
    report.response_tokens += rows.rows[i].sampled_tokens();
    report.input_tokens += rows.rows[i].input_tokens();
  }
  report.metrics["model_flop"] += TrainingFlop(model_.config(), PassesOf(rows.rows, plan));
  timer.Next("pack");
  if (plan.microbatches.empty()) {
    report.skipped = true;
    report.skip_reason =
        "no tokens to train on: every group was filtered, without a score, or empty";
    return absl::OkStatus();
  }
  const double before = total.loss;
  std::vector<MicrobatchOutput> outputs(plan.microbatches.size());
  RETURN_IF_ERROR(optimiser_.Accumulate(plan, [&](int32_t m, const Backward& backward) {
    return ComputeMicrobatch(model_, rows, plan.microbatches[m], math, backward, outputs[m]);
  }));
  RETURN_IF_ERROR(crew_.Share(plan, outputs));
  for (const MicrobatchOutput& output : outputs) total.Add(output);
  timer.Next("forward_backward");
  report.loss = total.loss - before;
  report.metrics["microbatches"] += static_cast<double>(plan.microbatches.size());
  return Apply(rule, timer, report);
}

absl::Status PolicyUpdate::InMinibatches(const AdvantageInput& input,
                                         const std::vector<uint8_t>& kept, StepMath math,
                                         const UpdateRule& rule, StepRows& rows, PhaseTimer& timer,
                                         StepReport& report) {
  const AlgorithmConfig& a = math.algorithm;
  const auto minibatches = SplitKept(input, kept, trainer_.updates_per_step);
  if (minibatches.size() > 1 && a.correction.anchor == "recomputed") {
    rows.proximal = SampledValues::Like(rows.rows);
    const PackPlan plan = Plan(rows.rows, kept);
    RETURN_IF_ERROR(crew_.ForEach(plan, [&](int, int32_t m) {
      return ComputeLogprobs(model_, rows, plan.microbatches[m], rows.proximal);
    }));
    RETURN_IF_ERROR(crew_.Share(rows.proximal.values));
    timer.Next("anchor");
  }
  MicrobatchOutput total;
  double loss = 0, grad_norm = 0, updates = 0;
  for (const std::vector<uint8_t>& part : minibatches) {
    rows.token_weight = TokenWeights(input.group, input.tokens, part, a.aggregation, a.conventions);
    if (a.auxiliary.positive_nll != 0) {
      rows.positive_weight = PositiveTokenWeights(Imitated(input), input.tokens, part);
    }
    RETURN_IF_ERROR(Once(rows, part, math, rule, timer, total, report));
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
  total.mtp_loss /= std::max(updates, 1.0);
  if (total.sums.tokens > 0) ReportSums(total, a, report);
  return absl::OkStatus();
}

}  // namespace tramontane
