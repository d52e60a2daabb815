// The exact KL divergence between two models' next-token distributions, differentiable in the
// first. By chunks of rows, so that [rows, vocab] of the two never exists at once; backward is by
// hand.
//
//   reverse  Σ_v π(v)·(log π(v) − log q(v)): kl.kind full, and on-policy distillation towards q
//   forward  Σ_v q(v)·(log q(v) − log π(v)): off-policy distillation, whose gradient is softmax − q
//
// Distillation towards a teacher is this term alone, averaged over the tokens that count. With
// q_top_k > 0 (forward only) q is first cut to its k likeliest tokens and renormalised, as where
// only those of a teacher are known.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tramontane {

enum class KlDirection { kReverse, kForward };

// A model's last hidden states and head: hidden [rows, width], weight [vocab, width]. Widths of the
// two may differ, vocabularies may not.
struct HeadInput {
  at::Tensor hidden_RD, weight_VD;
};

// [rows], at least float32. Logits of both are divided by `temperature` first. The gradient goes to
// π's hidden states and weight; q is a constant.
at::Tensor VocabKl(const HeadInput& pi, const HeadInput& q, double temperature,
                   KlDirection direction, int64_t chunk_rows = 1024, int64_t q_top_k = 0);

}  // namespace tramontane
