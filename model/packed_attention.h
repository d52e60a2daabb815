// Differentiable causal attention over packed sequences, for training and for scoring.
#pragma once

#include <vector>

#include "model/attention.h"

namespace tramontane {

class PackedAttention final : public Attention {
 public:
  // offsets: n + 1 increasing token offsets; sequence i is tokens [offsets[i], offsets[i+1]).
  // continues: empty, or one number for each of the n. Where it is not 0, the tokens continue the
  // last segment before them where it is: they attend to that and to themselves, and both are one
  // sequence. Several may continue the same one, which is then computed once; its gradient is the
  // sum over all. Positions are the caller's affair.
  explicit PackedAttention(std::vector<int64_t> offsets, std::vector<int64_t> continues = {});
  at::Tensor Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                 const at::Tensor& v_TKD, double scale, int64_t window_tokens) override;
  // A sequence's length is defined only where nothing continues another.
  std::vector<int64_t> RopeLengths(const std::vector<int64_t>& positions) const override;

 private:
  std::vector<int64_t> offsets_, continues_;
};

}  // namespace tramontane
