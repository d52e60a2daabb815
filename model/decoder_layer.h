// One decoder layer: its weights, and what it computes before and after attention and in its MLP,
// each one autograd node with a hand-written backward. Attention or MLP may be absent; in the MLP's
// place there may be a router and experts (model/experts.h).
//
// Projections that read the same input (q, k, v; gate, up) lie in one buffer, of which the
// parameters that checkpoints name are slices: one matrix product serves all, and an in-place
// update of a parameter is an update of the buffer. So parameters must be changed in place, never
// replaced.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "model/model_config.h"
#include "model/rope.h"

namespace tramontane {

struct AttentionInput {
  at::Tensor q_THD, k_TKD, v_TKD;  // [tokens, (kv) heads, head_dim], q and k rotated
  at::Tensor residual_TE;          // the layer's input, to be passed to AfterAttention
};

// Immutable but for the values of its tensors: Forward may run in several threads.
class DecoderLayer {
 public:
  DecoderLayer(const ModelConfig& config, int64_t layer, at::Device device, at::ScalarType dtype);

  bool has_attention() const { return kv_heads_ > 0; }

  // input norm -> q, k, v projections -> q, k norms -> rope. x [tokens, hidden], contiguous.
  AttentionInput BeforeAttention(const at::Tensor& x_TE, const RopeRows& rope) const;
  // output projection + residual. attended [tokens, heads, head_dim].
  at::Tensor AfterAttention(const at::Tensor& attended_THD, const at::Tensor& residual_TE) const;
  // norm -> SwiGLU + residual; x itself where the layer has no MLP. Not for layers with experts.
  at::Tensor Mlp(const at::Tensor& x_TE) const;

  // Suffixes of Hugging Face keys ("self_attn.q_proj.weight", …) with the leaf tensors, in the
  // order transformers writes them.
  const std::vector<std::pair<std::string, at::Tensor>>& parameters() const { return parameters_; }

  std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> tensors;
    for (const auto& [name, tensor] : parameters_) tensors.push_back(tensor);
    return tensors;
  }

  // What the autograd nodes need of a projection: the joint tensors, and the leaves they consist
  // of.
  struct Linear {
    at::Tensor weight, bias;  // [out, in], [out] or undefined
    std::vector<at::Tensor> leaf_weights, leaf_biases;
  };
  struct MlpWeights {
    Linear gate_up, down;
  };
  // Undefined where the layer lacks the part.
  const Linear& qkv() const { return qkv_; }
  const Linear& o() const { return o_; }
  const std::vector<MlpWeights>& mlps() const { return mlps_; }  // one, or the experts, or none
  const at::Tensor& router() const { return router_; }           // [experts, hidden]
  int64_t experts_per_token() const { return experts_per_token_; }
  bool normalise_experts() const { return normalise_experts_; }
  const at::Tensor& input_norm() const { return input_norm_; }
  const at::Tensor& post_norm() const { return post_norm_; }
  const at::Tensor& q_norm() const { return q_norm_; }  // undefined without qk_norm
  const at::Tensor& k_norm() const { return k_norm_; }
  int64_t heads() const { return heads_; }
  int64_t kv_heads() const { return kv_heads_; }
  int64_t head_dim() const { return head_dim_; }
  double eps() const { return eps_; }

 private:
  struct Part {
    std::string name;
    int64_t rows;
  };
  Linear MakeLinear(const std::vector<Part>& parts, int64_t in, bool bias,
                    const at::TensorOptions& options);
  at::Tensor AddLeaf(const std::string& name, at::Tensor storage);

  int64_t heads_, kv_heads_, head_dim_, experts_per_token_;
  bool normalise_experts_;
  double eps_;
  Linear qkv_, o_;
  std::vector<MlpWeights> mlps_;
  at::Tensor input_norm_, post_norm_, q_norm_, k_norm_, router_;
  std::vector<std::pair<std::string, at::Tensor>> parameters_;
};

}  // namespace tramontane
