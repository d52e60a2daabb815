// Budget guidance: how much each token's probability counts, given how much of the budget is left.
// Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

class LengthPredictor;

class LengthGuide {
 public:
  // `threads`: of ATen, for what it computes.
  LengthGuide(std::shared_ptr<const LengthPredictor> predictor, int threads);

  // Weights (model/length_predictor.h) of the tokens that may follow `hidden_D`, the final-normed
  // hidden state; `remaining` ≥ 1 tokens are left. [vocab], valid until the next call. What a row
  // gives depends on nothing else.
  absl::StatusOr<std::span<const float>> Weights(std::span<const float> hidden_D,
                                                 int32_t remaining);

 private:
  const std::shared_ptr<const LengthPredictor> predictor_;
  const int threads_;
  bool entered_ = false;
  std::vector<float> weights_V_;
};

}  // namespace tramontane
