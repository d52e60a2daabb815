// One loss, a point in the space of the `algorithm` knobs:
//
//   L = Σ_t weight_t · [ w̃_t · ℓ(ρ_t, A_t) + β·k(π, π_ref)_t − c·H_t + κ·v_t ]
//       + μ · Σ_t positive_weight_t · (−log π_t)
//
//   ppo_clip  −min(ρA, clip(ρ, 1−ε_low, 1+ε_high)·A), ρ ≤ ratio_cap in the first; with dual_clip c at
//             most c|A| where A < 0 (arXiv 1912.09729)
//   cispo     −clip(ρ)·A·log π, the clipped ratio a constant (MiniMax-M1, arXiv 2506.13585)
//   pg        −A·log π, or −ρA with a ratio
//   opmd      (A − τ·s)²/(2τ) of each sequence, s = Σ_t log π/π_ref: its gradient is
//             −(A·∇log π − (τ/2)·∇s²), Kimi k1.5's (arXiv 2501.12599 §2.3.2)
//   nll       −log π
//   ρ         π/anchor of the token, or (GSPO, arXiv 2507.18071) its geometric mean over the sequence
//   v         the value loss below; c is entropy.coefficient, whatever kind sets it
//
// Pure functions of tensors, in whatever floating type the inputs have. Sequences lie back to back
// and are never split, so losses of microbatches add up to the loss of the step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

// All [tokens] of one floating type; undefined = absent.
struct TokenBatch {
  at::Tensor logprob_T;          // log π, differentiable
  at::Tensor behaviour_T;        // log μ, as sampled
  at::Tensor proximal_T;         // log π_p, the anchor when algorithm.correction.anchor is recomputed
  at::Tensor reference_T;        // log π_ref
  at::Tensor full_kl_T;          // KL(π‖π_ref) over the whole vocabulary, for kl.kind full
  at::Tensor entropy_T;          // H; differentiable if the caller wants its gradient
  at::Tensor advantage_T;
  // For auxiliary.value_coefficient: V now (differentiable), V when sampled, and what it should be.
  at::Tensor value_T, value_old_T, value_target_T;
  at::Tensor weight_T;           // aggregation weight; 0 where masked or dropped
  at::Tensor positive_weight_T;  // needed for auxiliary.positive_nll: 1 / tokens of rewarded sequences, else 0
  at::Tensor masked_T;           // bool, true = not sampled by the policy; undefined: all sampled
  at::Tensor sequence_T;         // int64, index of the token's sequence, 0 … sequences − 1
  int64_t sequences = 0;
};

// Sums over sampled tokens with weight (dropped ones excluded); microbatches add up.
struct LossSums {
  double tokens = 0;
  double ratio = 0, ratio_max = 0;
  double clipped_low = 0, clipped_high = 0;  // tokens whose gradient the clip removed or bounded
  double corrected = 0;                      // tokens that the correction truncated or cut
  double correction = 0;                     // Σ w̃
  double negative_logprob = 0;
  double kl = 0, entropy = 0, value_loss = 0;
  double anchor_kl = 0;  // Σ (log anchor − log π), k1 of the anchor against π

  void Add(const LossSums& other);
};

struct PolicyLossOutput {
  at::Tensor loss;  // scalar, differentiable with respect to logprob_T (entropy_T, full_kl_T, value_T)
  LossSums sums;
};

// InvalidArgument names the input that a knob needs and that is absent.
absl::StatusOr<PolicyLossOutput> PolicyLoss(const TokenBatch& batch, const AlgorithmConfig& algorithm);

// The KL estimators k1, k2, k3 per token (Schulman, "Approximating KL divergence"), clamped by
// the conventions. [tokens]
at::Tensor KlEstimate(const at::Tensor& logprob_T, const at::Tensor& reference_T, const std::string& kind,
                      const ConventionsConfig& conventions);

// The value loss ½·(V − target)², or with `clip` the larger of that and of V held within ±clip of
// value_old (PPO, as verl's compute_value_loss). [tokens]
at::Tensor ValueLoss(const at::Tensor& value_T, const at::Tensor& value_old_T, const at::Tensor& target_T,
                     std::optional<double> clip);

// Constant weights w̃ between anchor and behaviour policy, [tokens].
//   truncate          min(w, cap)
//   mask              w where low ≤ w ≤ high, else 0 (IcePop)
//   geometric_reject  1 where w is in [low, high], else 0
// Level `sequence` replaces w by the product over the sequence; for geometric_reject by the geometric
// mean. Rejected tokens stay in the denominators: a mask never changes the normaliser.
at::Tensor CorrectionWeights(const at::Tensor& anchor_T, const TokenBatch& batch,
                             const CorrectionConfig& correction, const ConventionsConfig& conventions);

}  // namespace tramontane
