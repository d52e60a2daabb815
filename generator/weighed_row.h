// A row of logits whose probabilities are multiplied by weights, p ∝ p · w. Torch-free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generator/draw_rules.h"

namespace tramontane {

// Holds scratch memory only. One thread.
class WeighedRow {
 public:
  // The row whose distribution at `temperature` (0: at temperature 1) is that of `row` times
  // weights_V[id] of each id. Tokens of weight 0 are gone; where no token has any, the likeliest
  // alone is left. Equal weights leave every bit as it was. `row` is finite; the result is valid
  // until the next call.
  RuledDraw::Row Apply(const RuledDraw::Row& row, std::span<const float> weights_V,
                       double temperature);
  // Whether the last row had nothing left but its likeliest token.
  bool kept_likeliest() const { return kept_likeliest_; }

 private:
  std::vector<float> logits_;
  std::vector<int32_t> ids_;
  bool kept_likeliest_ = false;
};

}  // namespace tramontane
