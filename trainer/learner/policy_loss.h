// One loss, a point in the space of the `algorithm` knobs:
//
//   L = Σ_t weight_t · [ w̃_t · ℓ(ρ_t, A_t) + β·k(π, π_ref)_t − c·H_t ] + μ · Σ_t positive_weight_t · (−log π_t)
//
// Pure functions of tensors, in whatever floating type the inputs have. Sequences lie back to back
// and are never split, so losses of microbatches add up to the loss of the step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

// All [tokens] of one floating type; undefined = absent.
struct TokenBatch {
  at::Tensor logprob_T;          // log π, differentiable
  at::Tensor behaviour_T;        // log μ, as sampled
  at::Tensor proximal_T;         // log π_p, the anchor when algorithm.correction.anchor is recomputed
  at::Tensor reference_T;        // log π_ref
  at::Tensor entropy_T;          // H; differentiable if the caller wants its gradient
  at::Tensor advantage_T;
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
  double kl = 0, entropy = 0;
  double anchor_kl = 0;  // Σ (log anchor − log π), k1 of the anchor against π

  void Add(const LossSums& other);
};

struct PolicyLossOutput {
  at::Tensor loss;  // scalar, differentiable with respect to logprob_T (and entropy_T)
  LossSums sums;
};

// InvalidArgument names the input that a knob needs and that is absent.
absl::StatusOr<PolicyLossOutput> PolicyLoss(const TokenBatch& batch, const AlgorithmConfig& algorithm);

// The KL estimators k1, k2, k3 per token (Schulman, "Approximating KL divergence"), clamped by
// the conventions. [tokens]
at::Tensor KlEstimate(const at::Tensor& logprob_T, const at::Tensor& reference_T, const std::string& kind,
                      const ConventionsConfig& conventions);

// Constant weights w̃ between anchor and behaviour policy, [tokens].
//   truncate          min(w, cap)
//   mask              w where low ≤ w ≤ high, else 0 (IcePop)
//   geometric_reject  1 where the sequence's geometric mean of w is in [low, high], else 0
// Level `sequence` replaces w by the product over the sequence.
at::Tensor CorrectionWeights(const at::Tensor& anchor_T, const TokenBatch& batch,
                             const CorrectionConfig& correction, const ConventionsConfig& conventions);

}  // namespace tramontane
