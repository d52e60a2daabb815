// The length predictor of budget guidance: linear heads on the final-normed hidden state of a
// frozen model. Of each token that may come next they say how much thinking is left with it, that
// token included: log(L + 1) ~ Gamma(shape, rate), L ≥ 1 in tokens.
//
// Li et al., "Steering LLM Thinking with Budget Guidance", arXiv 2506.13752. Theirs reads the
// hidden states of all layers by an encoder and has no biases; the heads and what is made of them
// are the same.
//
// File: length_predictor.safetensors beside the model, float32: {shape,rate}_head.weight [vocab,
// hidden] and .bias [vocab]; its metadata says "length_predictor": "1", the version of all this.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/model_config.h"

namespace tramontane {

// Of log(L + 1): float32, of one shape.
struct LengthGammas {
  at::Tensor shape, rate;
};

class LengthPredictor {
 public:
  // Untrained: the same distribution for every token, of lengths of a few dozen.
  explicit LengthPredictor(const ModelConfig& config);

  // hidden [rows, hidden], any dtype → [rows, vocab].
  LengthGammas All(const at::Tensor& hidden_RD) const;
  // … → [rows], of one token a row (int64). Differentiable for the heads.
  LengthGammas Of(const at::Tensor& hidden_RD, const at::Tensor& tokens_R) const;

  // The tensors themselves, by their names in the file.
  std::vector<std::pair<std::string, at::Tensor>> Names() const;

  absl::Status Save(const std::string& dir) const;
  // InvalidArgument: the file is of another version or model, and how. NotFound: there is none.
  static absl::StatusOr<std::shared_ptr<LengthPredictor>> Load(const std::string& dir,
                                                               const ModelConfig& config);

 private:
  at::Tensor shape_VD_, shape_bias_V_, rate_VD_, rate_bias_V_;
};

// −log p of log(L + 1). Lengths: L, at least 1. Of the gammas' shape and dtype.
at::Tensor LengthNll(const LengthGammas& gammas, const at::Tensor& lengths);

// By how much each token's probability is multiplied when `remaining` (≥ 1) tokens of the budget
// are left: P(log(L + 1) ≤ log(remaining + 1)), in [0, 1]; 0 where the prediction is not sure
// enough to count: rate < 10, shape ≤ 1, or a length at the mode below 0.9.
at::Tensor BudgetWeights(const LengthGammas& gammas, double remaining);
// Where the prediction is sure enough.
at::Tensor SureOfLength(const LengthGammas& gammas);

}  // namespace tramontane
