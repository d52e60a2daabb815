// The head of a critic: V = w · h + b of a final hidden state h. The trainer writes it beside the
// critic's body; whoever scores by a critic reads it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "absl/status/status.h"

namespace tramontane {

struct ValueHead {
  at::Tensor weight_D, bias;  // [hidden], [1]

  // hidden [rows, hidden] → [rows], in at least float32.
  at::Tensor Of(const at::Tensor& hidden_RD) const;
};

// <folder>/value_head.safetensors, in float64.
absl::Status SaveValueHead(const ValueHead& head, const std::string& folder);

// Fills the tensors of `head`, which have their shapes already. NotFound: no such file. DataLoss:
// another shape, or no head.
absl::Status LoadValueHead(const std::string& folder, ValueHead& head);

}  // namespace tramontane
