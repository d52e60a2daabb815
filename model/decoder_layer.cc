#include "model/decoder_layer.h"

#include <torch/types.h>

#include <algorithm>

#include "model/decoder_layer_cpu.h"
#include "model/ops/dispatch.h"
#include "model/ops/rms_norm.h"

namespace tramontane {

namespace {

at::Tensor RotateAten(const at::Tensor& x_THD, const at::Tensor& cos_TH, const at::Tensor& sin_TH) {
  const auto halves = x_THD.chunk(2, -1);
  const at::Tensor cos = cos_TH.unsqueeze(1), sin = sin_TH.unsqueeze(1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

// One product per leaf, so that autograd reaches the parameters.
at::Tensor ProjectAten(const DecoderLayer::Linear& linear, const at::Tensor& x, size_t part) {
  const bool bias = !linear.leaf_biases.empty();
  return at::linear(x, linear.leaf_weights[part],
                    bias ? std::optional<at::Tensor>(linear.leaf_biases[part]) : std::nullopt);
}

AttentionInput BeforeAttentionAten(const DecoderLayer& layer, const at::Tensor& x_TE,
                                   const RopeRows& rope) {
  const at::Tensor normed = RmsNormAten(x_TE, layer.input_norm(), layer.eps());
  const auto project = [&](size_t part) {
    return ProjectAten(layer.qkv(), normed, part).unflatten(-1, {-1, layer.head_dim()});
  };
  at::Tensor q = project(0), k = project(1);
  if (layer.q_norm().defined()) {
    q = RmsNormAten(q, layer.q_norm(), layer.eps());
    k = RmsNormAten(k, layer.k_norm(), layer.eps());
  }
  const at::Tensor cos = rope.cos_PH.index_select(0, rope.index_T);
  const at::Tensor sin = rope.sin_PH.index_select(0, rope.index_T);
  return {RotateAten(q, cos, sin), RotateAten(k, cos, sin), project(2), x_TE};
}

at::Tensor AfterAttentionAten(const DecoderLayer& layer, const at::Tensor& attended_THD,
                              const at::Tensor& residual_TE) {
  return residual_TE + ProjectAten(layer.o(), attended_THD.flatten(1), 0);
}

at::Tensor MlpAten(const DecoderLayer& layer, const at::Tensor& x_TE) {
  const at::Tensor normed = RmsNormAten(x_TE, layer.post_norm(), layer.eps());
  const auto& [gate_up, down] = layer.mlps()[0];
  const at::Tensor gate = ProjectAten(gate_up, normed, 0);
  return x_TE + ProjectAten(down, at::silu(gate) * ProjectAten(gate_up, normed, 1), 0);
}

}  // namespace

DecoderLayer::DecoderLayer(const ModelConfig& config, int64_t layer, at::Device device,
                           at::ScalarType dtype)
    : heads_(config.num_heads),
      kv_heads_(config.layers[layer].kv_heads),
      head_dim_(config.head_dim),
      experts_per_token_(config.experts_per_token),
      normalise_experts_(config.normalise_experts),
      eps_(config.rms_norm_eps) {
  const auto options = at::TensorOptions().device(device).dtype(dtype);
  const int64_t hidden = config.hidden_size, width = config.layers[layer].mlp_width;
  if (has_attention()) {
    qkv_ = MakeLinear({{"self_attn.q_proj", config.q_size()},
                       {"self_attn.k_proj", config.kv_size(layer)},
                       {"self_attn.v_proj", config.kv_size(layer)}},
                      hidden, config.attention_qkv_bias, options);
    o_ = MakeLinear({{"self_attn.o_proj", hidden}}, config.q_size(), config.attention_out_bias,
                    options);
    if (config.qk_norm) {
      q_norm_ = AddLeaf("self_attn.q_norm.weight", at::empty({head_dim_}, options));
      k_norm_ = AddLeaf("self_attn.k_norm.weight", at::empty({head_dim_}, options));
    }
  }
  const int64_t experts = config.layers[layer].experts;
  if (experts > 0) {
    router_ = AddLeaf(NameOfRouter(config) + ".weight", at::empty({experts, hidden}, options));
  }
  const int64_t mlps = width == 0 ? 0 : std::max<int64_t>(experts, 1);
  for (int64_t e = 0; e < mlps; ++e) {
    const MlpNames names = NamesOfMlp(config, layer, e);
    MlpWeights mlp;
    mlp.gate_up =
        MakeLinear({{names.gate, width}, {names.up, width}}, hidden, config.mlp_bias, options);
    mlp.down = MakeLinear({{names.down, hidden}}, width, config.mlp_bias, options);
    mlps_.push_back(std::move(mlp));
  }
  if (has_attention()) {
    input_norm_ = AddLeaf("input_layernorm.weight", at::empty({hidden}, options));
  }
  if (width > 0) {
    post_norm_ = AddLeaf("post_attention_layernorm.weight", at::empty({hidden}, options));
  }
}

DecoderLayer::Linear DecoderLayer::MakeLinear(const std::vector<Part>& parts, int64_t in, bool bias,
                                              const at::TensorOptions& options) {
  // Slices made below autograd are not views to it: each leaf stands alone, sharing memory only.
  at::AutoDispatchBelowADInplaceOrView guard;
  int64_t out = 0;
  for (const Part& part : parts) out += part.rows;
  Linear linear;
  linear.weight = at::empty({out, in}, options);
  if (bias) linear.bias = at::empty({out}, options);
  int64_t row = 0;
  for (const Part& part : parts) {
    linear.leaf_weights.push_back(
        AddLeaf(part.name + ".weight", linear.weight.narrow(0, row, part.rows)));
    if (bias) {
      linear.leaf_biases.push_back(
          AddLeaf(part.name + ".bias", linear.bias.narrow(0, row, part.rows)));
    }
    row += part.rows;
  }
  return linear;
}

at::Tensor DecoderLayer::AddLeaf(const std::string& name, at::Tensor storage) {
  storage.set_requires_grad(true);
  parameters_.emplace_back(name, storage);
  return storage;
}

AttentionInput DecoderLayer::BeforeAttention(const at::Tensor& x_TE, const RopeRows& rope) const {
  return HasCpuKernels(x_TE) ? cpu::BeforeAttention(*this, x_TE, rope)
                             : BeforeAttentionAten(*this, x_TE, rope);
}

at::Tensor DecoderLayer::AfterAttention(const at::Tensor& attended_THD,
                                        const at::Tensor& residual_TE) const {
  return HasCpuKernels(residual_TE) ? cpu::AfterAttention(*this, attended_THD, residual_TE)
                                    : AfterAttentionAten(*this, attended_THD, residual_TE);
}

at::Tensor DecoderLayer::Mlp(const at::Tensor& x_TE) const {
  if (!post_norm_.defined()) return x_TE;
  return HasCpuKernels(x_TE) ? cpu::Mlp(*this, x_TE) : MlpAten(*this, x_TE);
}

namespace reference {

AttentionInput BeforeAttention(const DecoderLayer& layer, const at::Tensor& x_TE,
                               const RopeRows& rope) {
  return BeforeAttentionAten(layer, x_TE, rope);
}

at::Tensor AfterAttention(const DecoderLayer& layer, const at::Tensor& attended_THD,
                          const at::Tensor& residual_TE) {
  return AfterAttentionAten(layer, attended_THD, residual_TE);
}

at::Tensor Mlp(const DecoderLayer& layer, const at::Tensor& x_TE) { return MlpAten(layer, x_TE); }

}  // namespace reference

}  // namespace tramontane
