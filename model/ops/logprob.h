// LM head → log-softmax → chosen log-probability and entropy, by chunks of rows, so that
// [tokens, vocab] never exists at once. float32 throughout (float64 for a float64 model); backward
// is written by hand.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tramontane {

struct LogprobResult {
  at::Tensor logprob;  // [rows] float32, differentiable
  at::Tensor entropy;  // [rows] float32, differentiable only if asked for; undefined otherwise
};

// hidden [rows, hidden], weight [vocab, hidden], targets int64 [rows].
// Logits are divided by `temperature` before the softmax.
LogprobResult ChunkedLogprob(const at::Tensor& hidden_RD, const at::Tensor& weight_VD,
                             const at::Tensor& targets_R, double temperature, bool want_entropy,
                             int64_t chunk_rows = 1024);

}  // namespace tramontane
