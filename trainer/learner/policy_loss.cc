#include "trainer/learner/policy_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "common/status.h"

namespace tramontane {
namespace {

using at::Tensor;

// Values at masked positions are arbitrary. They are zeroed before anything non-linear: masked
// after exp() or a square that overflowed, they would put 0·inf = NaN into the gradient of all
// weights.
Tensor ZeroMasked(const Tensor& values_T, const TokenBatch& batch) {
  return batch.masked_T.defined() ? values_T.masked_fill(batch.masked_T, 0) : values_T;
}

Tensor SequenceSum(const Tensor& values_T, const TokenBatch& batch) {
  return at::zeros({batch.sequences}, values_T.options()).index_add(0, batch.sequence_T, values_T);
}

Tensor SampledPerSequence(const TokenBatch& batch) {
  return SequenceSum(ZeroMasked(at::ones_like(batch.weight_T), batch), batch);
}

Tensor ClampLogRatio(const Tensor& log_ratio_T, const ConventionsConfig& conventions) {
  if (!conventions.log_ratio_clamp) return log_ratio_T;
  return log_ratio_T.clamp(-*conventions.log_ratio_clamp, *conventions.log_ratio_clamp);
}

absl::Status Need(const Tensor& tensor, const std::string& input, const std::string& knob) {
  if (tensor.defined()) return absl::OkStatus();
  return absl::InvalidArgumentError("batch." + input + " is needed by algorithm." + knob);
}

bool UsesRatio(const AlgorithmConfig& a) {
  return a.objective.kind != "nll" && a.objective.kind != "opmd" && a.objective.ratio != "none";
}

absl::Status CheckInputs(const TokenBatch& batch, const AlgorithmConfig& a) {
  const bool recomputed = a.correction.anchor == "recomputed";
  if (UsesRatio(a)) {
    RETURN_IF_ERROR(
        recomputed ? Need(batch.proximal_T, "logprob_proximal", "correction.anchor: recomputed")
                   : Need(batch.behaviour_T, "logprob_behaviour", "objective.ratio"));
  }
  if (a.correction.kind != "none") {
    RETURN_IF_ERROR(Need(batch.behaviour_T, "logprob_behaviour", "correction.kind"));
    if (recomputed)
      RETURN_IF_ERROR(Need(batch.proximal_T, "logprob_proximal", "correction.anchor: recomputed"));
  }
  if (a.objective.kind == "opmd") {
    RETURN_IF_ERROR(Need(batch.reference_T, "logprob_reference", "objective.kind: opmd"));
  }
  if (a.kl.kind != "none" && a.kl.where == "loss") {
    RETURN_IF_ERROR(a.kl.kind == "full" ? Need(batch.full_kl_T, "kl_full", "kl.kind: full")
                                        : Need(batch.reference_T, "logprob_reference", "kl.kind"));
  }
  if (a.auxiliary.value_coefficient != 0) {
    RETURN_IF_ERROR(Need(batch.value_T, "value", "auxiliary.value_coefficient"));
    if (a.auxiliary.value_clip)
      RETURN_IF_ERROR(Need(batch.value_old_T, "value_old", "auxiliary.value_clip"));
  }
  if (a.entropy.kind != "none") RETURN_IF_ERROR(Need(batch.entropy_T, "entropy", "entropy.kind"));
  if (a.auxiliary.positive_nll != 0) {
    RETURN_IF_ERROR(Need(batch.positive_weight_T, "reward", "auxiliary.positive_nll"));
  }
  return absl::OkStatus();
}

// ρ per token; undefined where the objective has none.
Tensor Ratio(const TokenBatch& batch, const Tensor& anchor_T, const AlgorithmConfig& a) {
  if (!UsesRatio(a)) return {};
  Tensor log_ratio_T = ZeroMasked(batch.logprob_T - anchor_T, batch);
  if (a.objective.ratio == "sequence") {
    // GSPO: the geometric mean over the sequence, one ratio for all of its tokens.
    const Tensor mean_S = SequenceSum(log_ratio_T, batch) / SampledPerSequence(batch).clamp_min(1);
    log_ratio_T = mean_S.index_select(0, batch.sequence_T);
  }
  return ClampLogRatio(log_ratio_T, a.conventions).exp();
}

// −min(ρA, clip(ρ)A); with dual clip at most c·|A| where A < 0.
Tensor PpoClip(const Tensor& ratio_T, const Tensor& advantage_T, const ObjectiveConfig& o) {
  const Tensor clipped_T = ratio_T.clamp(1 - o.clip_low, 1 + o.clip_high);
  const Tensor capped_T = o.ratio_cap ? ratio_T.clamp_max(*o.ratio_cap) : ratio_T;
  Tensor loss_T = -at::minimum(capped_T * advantage_T, clipped_T * advantage_T);
  if (o.dual_clip) {
    loss_T = at::where(advantage_T < 0, at::minimum(loss_T, -*o.dual_clip * advantage_T), loss_T);
  }
  return loss_T;
}

struct Bounds {
  double low, high;
};

Bounds CispoBounds(const AlgorithmConfig& a) {
  if (a.conventions.cispo_bound == "absolute") return {0.0, a.objective.clip_high};
  return {1 - a.objective.clip_low, 1 + a.objective.clip_high};
}

// The sequence's loss at each of its tokens, so that averaging them gives it back.
Tensor Opmd(const TokenBatch& batch, const AlgorithmConfig& a) {
  const double tau = *a.objective.tau;
  const Tensor log_ratio_S = SequenceSum(
      ClampLogRatio(ZeroMasked(batch.logprob_T - batch.reference_T, batch), a.conventions), batch);
  const Tensor residual_T = batch.advantage_T - tau * log_ratio_S.index_select(0, batch.sequence_T);
  return residual_T.square() / (2 * tau);
}

Tensor Objective(const TokenBatch& batch, const Tensor& ratio_T, const AlgorithmConfig& a) {
  const std::string& kind = a.objective.kind;
  const Tensor& advantage_T = batch.advantage_T;
  if (kind == "nll") return -batch.logprob_T;
  if (kind == "opmd") return Opmd(batch, a);
  if (kind == "ppo_clip") return PpoClip(ratio_T, advantage_T, a.objective);
  if (kind == "cispo") {
    const Bounds bounds = CispoBounds(a);
    return -ratio_T.detach().clamp(bounds.low, bounds.high) * advantage_T * batch.logprob_T;
  }
  // pg: the plain score function, or the importance-weighted one when there is a ratio.
  return -advantage_T * (ratio_T.defined() ? ratio_T : batch.logprob_T);
}

double Sum(const Tensor& values_T) { return values_T.sum(at::kDouble).item<double>(); }

void AddClipShares(const TokenBatch& batch, const Tensor& ratio_T, const Tensor& counted_T,
                   const AlgorithmConfig& a, LossSums& sums) {
  if (a.objective.kind == "ppo_clip") {
    const Tensor low_T = (batch.advantage_T < 0).logical_and(ratio_T < 1 - a.objective.clip_low);
    const Tensor high_T = (batch.advantage_T > 0).logical_and(ratio_T > 1 + a.objective.clip_high);
    sums.clipped_low = Sum(low_T.logical_and(counted_T));
    sums.clipped_high = Sum(high_T.logical_and(counted_T));
  } else if (a.objective.kind == "cispo") {
    const Bounds bounds = CispoBounds(a);
    sums.clipped_low = Sum((ratio_T < bounds.low).logical_and(counted_T));
    sums.clipped_high = Sum((ratio_T > bounds.high).logical_and(counted_T));
  }
}

// What was computed on the way to the loss; undefined where a knob is off.
struct Parts {
  Tensor anchor_T, ratio_T, correction_T, kl_T, value_loss_T;
};

LossSums Measure(const TokenBatch& batch, const Parts& parts, const AlgorithmConfig& a) {
  LossSums sums;
  const Tensor counted_T = batch.weight_T > 0;
  sums.tokens = Sum(counted_T);
  if (sums.tokens == 0) return sums;
  const auto sum_counted = [&](const Tensor& values_T) {
    return Sum(values_T.masked_fill(~counted_T, 0));
  };
  const Tensor logprob_T = batch.logprob_T.detach();
  sums.negative_logprob = -sum_counted(logprob_T);
  if (parts.ratio_T.defined()) {
    const Tensor detached_T = parts.ratio_T.detach();
    sums.ratio = sum_counted(detached_T);
    sums.ratio_max = detached_T.masked_fill(~counted_T, 0).max().item<double>();
    sums.anchor_kl = sum_counted(parts.anchor_T - logprob_T);
    AddClipShares(batch, detached_T, counted_T, a, sums);
  }
  if (parts.kl_T.defined()) sums.kl = sum_counted(parts.kl_T.detach());
  if (parts.value_loss_T.defined()) sums.value_loss = sum_counted(parts.value_loss_T.detach());
  if (batch.entropy_T.defined()) sums.entropy = sum_counted(batch.entropy_T.detach());
  if (parts.correction_T.defined()) {
    sums.correction = sum_counted(parts.correction_T);
    const Tensor touched_T = a.correction.kind == "truncate"
                                 ? parts.correction_T >= *a.correction.cap
                                 : parts.correction_T == 0;
    sums.corrected = Sum(touched_T.logical_and(counted_T));
  }
  return sums;
}

}  // namespace

void LossSums::Add(const LossSums& other) {
  tokens += other.tokens;
  ratio += other.ratio;
  ratio_max = std::max(ratio_max, other.ratio_max);
  clipped_low += other.clipped_low;
  clipped_high += other.clipped_high;
  corrected += other.corrected;
  correction += other.correction;
  negative_logprob += other.negative_logprob;
  kl += other.kl;
  entropy += other.entropy;
  value_loss += other.value_loss;
  anchor_kl += other.anchor_kl;
}

Tensor KlEstimate(const Tensor& logprob_T, const Tensor& reference_T, const std::string& kind,
                  const ConventionsConfig& conventions) {
  const Tensor log_ratio_T = ClampLogRatio(reference_T - logprob_T, conventions);
  if (kind == "k1") return -log_ratio_T;
  if (kind == "k2") return 0.5 * log_ratio_T.square();
  const Tensor k3_T = log_ratio_T.expm1() - log_ratio_T;
  return conventions.k3_clamp ? k3_T.clamp(-*conventions.k3_clamp, *conventions.k3_clamp) : k3_T;
}

Tensor ValueLoss(const Tensor& value_T, const Tensor& value_old_T, const Tensor& target_T,
                 std::optional<double> clip) {
  const Tensor error_T = (value_T - target_T).square();
  if (!clip) return 0.5 * error_T;
  const Tensor held_T = at::minimum(at::maximum(value_T, value_old_T - *clip), value_old_T + *clip);
  return 0.5 * at::maximum(error_T, (held_T - target_T).square());
}

Tensor CorrectionWeights(const Tensor& anchor_T, const TokenBatch& batch,
                         const CorrectionConfig& correction, const ConventionsConfig& conventions) {
  Tensor log_weight_T = ZeroMasked(anchor_T.detach() - batch.behaviour_T, batch);
  const bool geometric = correction.kind == "geometric_reject";
  if (correction.level == "sequence") {
    Tensor log_weight_S = SequenceSum(log_weight_T, batch);
    if (geometric) log_weight_S = log_weight_S / SampledPerSequence(batch).clamp_min(1);
    log_weight_T = log_weight_S.index_select(0, batch.sequence_T);
  }
  const Tensor weight_T = ClampLogRatio(log_weight_T, conventions).exp();
  if (correction.kind == "truncate") return weight_T.clamp_max(*correction.cap);
  const double low = correction.low.value_or(0);
  const double high = correction.high.value_or(std::numeric_limits<double>::infinity());
  const Tensor inside_T = (weight_T >= low).logical_and(weight_T <= high);
  return geometric ? inside_T.to(weight_T.scalar_type()) : weight_T.masked_fill(~inside_T, 0);
}

absl::StatusOr<PolicyLossOutput> PolicyLoss(const TokenBatch& batch, const AlgorithmConfig& a) {
  RETURN_IF_ERROR(CheckInputs(batch, a));
  Parts parts;
  // Under anchor behaviour without a ratio, the correction compares π itself with μ.
  parts.anchor_T = a.correction.anchor == "recomputed" ? batch.proximal_T : batch.behaviour_T;
  parts.ratio_T = Ratio(batch, parts.anchor_T, a);

  Tensor token_loss_T = Objective(batch, parts.ratio_T, a);
  if (a.correction.kind != "none") {
    const Tensor& numerator_T =
        a.correction.anchor == "recomputed" ? batch.proximal_T : batch.logprob_T;
    parts.correction_T = CorrectionWeights(numerator_T, batch, a.correction, a.conventions);
    token_loss_T = token_loss_T * parts.correction_T;
  }
  if (a.kl.kind != "none" && a.kl.where == "loss") {
    parts.kl_T = a.kl.kind == "full"
                     ? batch.full_kl_T
                     : KlEstimate(ZeroMasked(batch.logprob_T, batch),
                                  ZeroMasked(batch.reference_T, batch), a.kl.kind, a.conventions);
    token_loss_T = token_loss_T + a.kl.coefficient * parts.kl_T;
  }
  if (a.entropy.kind != "none")
    token_loss_T = token_loss_T - a.entropy.coefficient * batch.entropy_T;
  if (a.auxiliary.value_coefficient != 0) {
    const Tensor value_old_T =
        batch.value_old_T.defined() ? ZeroMasked(batch.value_old_T, batch) : batch.value_old_T;
    parts.value_loss_T = ValueLoss(ZeroMasked(batch.value_T, batch), value_old_T,
                                   ZeroMasked(batch.value_target_T, batch), a.auxiliary.value_clip);
    token_loss_T = token_loss_T + a.auxiliary.value_coefficient * parts.value_loss_T;
  }

  PolicyLossOutput output;
  output.loss = (ZeroMasked(token_loss_T, batch) * batch.weight_T).sum();
  if (a.auxiliary.positive_nll != 0) {
    const Tensor nll_T = ZeroMasked(-batch.logprob_T, batch);
    output.loss = output.loss + a.auxiliary.positive_nll * (nll_T * batch.positive_weight_T).sum();
  }
  const at::NoGradGuard no_grad;
  output.sums = Measure(batch, parts, a);
  return output;
}

}  // namespace tramontane
