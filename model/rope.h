// Rotary position embedding: the cosines and sines of every position, for all the scalings that the
// supported families use. Frequencies are computed in float32, in transformers' order of
// operations.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/attention.h"
#include "model/model_config.h"

namespace tramontane {

// Token t's angles are row index_T[t] of the tables.
struct RopeRows {
  at::Tensor cos_PH, sin_PH;  // [rows, head_dim / 2], model dtype, attention scaling included
  at::Tensor index_T;         // int64 [tokens]
};

// Immutable once built: any thread.
class RopeTable {
 public:
  RopeTable(const ModelConfig& config, at::Device device, at::ScalarType dtype);

  // positions_T int64 [tokens]. Positions beyond the table are computed on the spot; so is all with
  // `dynamic` scaling past the trained length, where `attention` says how long each sequence is.
  // Of positions 0 .. n − 1, as token-by-token decoding sees them; n is at most the longest context
  // that the model was configured for.
  RopeRows First(int64_t n) const;
  RopeRows For(const at::Tensor& positions_T, const Attention& attention) const;

 private:
  RopeRows Compute(const at::Tensor& positions_T, const at::Tensor& inv_freq_or_TH) const;

  ModelConfig config_;
  at::Device device_;
  at::ScalarType dtype_;
  at::Tensor inv_freq_H_;  // float32
  double attention_scaling_ = 1;
  int64_t table_positions_ = 0;
  at::Tensor cos_PH_, sin_PH_;
};

}  // namespace tramontane
