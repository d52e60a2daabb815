// Differentiable causal attention over packed sequences, for training and for scoring.
#pragma once

#include <vector>

#include "model/attention.h"

namespace tramontane {

class PackedAttention final : public Attention {
 public:
  // offsets: n + 1 increasing token offsets; sequence i is tokens [offsets[i], offsets[i+1]).
  explicit PackedAttention(std::vector<int64_t> offsets);
  at::Tensor Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                 const at::Tensor& v_TKD, double scale, int64_t window_tokens) override;
  std::vector<int64_t> RopeLengths(const std::vector<int64_t>& positions) const override;

 private:
  std::vector<int64_t> offsets_;
};

}  // namespace tramontane
