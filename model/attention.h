// The seam between generator and trainer: the same Transformer calls Attention::Run; the generator
// passes a paged one over its KV cache, the trainer a packed, differentiable one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tramontane {

class Attention {
 public:
  virtual ~Attention() = default;
  // q_THD [tokens, heads, head_dim]; k_TKD, v_TKD [tokens, kv heads, head_dim], after RoPE.
  // window_tokens: 0 = full causal attention. Returns [tokens, heads, head_dim].
  virtual at::Tensor Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                         const at::Tensor& v_TKD, double scale, int64_t window_tokens) = 0;

  // For the `dynamic` rope scaling alone, whose frequencies depend on the length seen so far: that
  // length for each token. By default what token-by-token decoding sees, position + 1; attention
  // over whole sequences answers with their full lengths.
  virtual std::vector<int64_t> RopeLengths(const std::vector<int64_t>& positions) const {
    std::vector<int64_t> lengths = positions;
    for (int64_t& length : lengths) ++length;
    return lengths;
  }
};

}  // namespace tramontane
