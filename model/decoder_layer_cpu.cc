#include "model/decoder_layer_cpu.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "model/ops/cpu/kernels.h"
#include "model/ops/dispatch.h"
#include "model/ops/multiply.h"

namespace tramontane::cpu {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

// residual + x W^T (+ bias)
at::Tensor ProjectOnto(const at::Tensor& residual, const at::Tensor& x_RI,
                       const DecoderLayer::Linear& linear) {
  at::Tensor y = at::addmm(residual, x_RI, linear.weight.t());
  if (linear.bias.defined()) y.add_(linear.bias);
  return y;
}

at::Tensor Norm(const at::Tensor& x_RD, const at::Tensor& weight_D, double eps,
                at::Tensor* rstd_R) {
  at::Tensor y = at::empty(x_RD.sizes(), x_RD.options());
  if (rstd_R != nullptr) *rstd_R = at::empty({x_RD.size(0)}, x_RD.options());
  DispatchElement(x_RD, [&]<typename T>() {
    kernels::Kernels<T>().rms_norm(x_RD.size(0), x_RD.size(1), x_RD.const_data_ptr<T>(),
                                   weight_D.const_data_ptr<T>(), eps, y.mutable_data_ptr<T>(),
                                   rstd_R ? rstd_R->mutable_data_ptr<T>() : nullptr);
  });
  return y;
}

at::Tensor NormAgain(const at::Tensor& x_RD, const at::Tensor& weight_D, const at::Tensor& rstd_R) {
  at::Tensor y = at::empty(x_RD.sizes(), x_RD.options());
  DispatchElement(x_RD, [&]<typename T>() {
    kernels::Kernels<T>().rms_norm_apply(x_RD.size(0), x_RD.size(1), x_RD.const_data_ptr<T>(),
                                         weight_D.const_data_ptr<T>(), rstd_R.const_data_ptr<T>(),
                                         y.mutable_data_ptr<T>());
  });
  return y;
}

// Gradient through the norm plus the residual's; d_weight is filled.
at::Tensor NormBackward(const at::Tensor& dy_RD, const at::Tensor& x_RD, const at::Tensor& weight_D,
                        const at::Tensor& rstd_R, const at::Tensor& residual_RD,
                        at::Tensor& d_weight) {
  at::Tensor dx = at::empty(x_RD.sizes(), x_RD.options());
  d_weight = at::zeros_like(weight_D);
  DispatchElement(x_RD, [&]<typename T>() {
    kernels::Kernels<T>().rms_norm_backward(
        x_RD.size(0), x_RD.size(1), dy_RD.const_data_ptr<T>(), x_RD.const_data_ptr<T>(),
        weight_D.const_data_ptr<T>(), rstd_R.const_data_ptr<T>(), residual_RD.const_data_ptr<T>(),
        dx.mutable_data_ptr<T>(), d_weight.mutable_data_ptr<T>());
  });
  return dx;
}

struct HeadShape {
  int64_t heads, kv_heads, dim;
  double eps;
  int64_t all() const { return heads + kv_heads; }  // that rope turns
};

template <typename T>
kernels::HeadRope<T> HeadArgs(const HeadShape& shape, const at::Tensor& qkv_TC,
                              const at::Tensor& q_norm, const at::Tensor& k_norm,
                              const RopeRows& rope) {
  kernels::HeadRope<T> args;
  args.rows = qkv_TC.size(0);
  args.heads = shape.heads;
  args.kv_heads = shape.kv_heads;
  args.head_dim = shape.dim;
  args.x = qkv_TC.const_data_ptr<T>();
  args.x_stride = qkv_TC.stride(0);
  args.q_weight = DataOrNull<T>(q_norm);
  args.k_weight = DataOrNull<T>(k_norm);
  args.eps = shape.eps;
  args.cos = rope.cos_PH.const_data_ptr<T>();
  args.sin = rope.sin_PH.const_data_ptr<T>();
  args.table_row = rope.index_T.const_data_ptr<int64_t>();
  return args;
}

struct BeforeResult {
  AttentionInput input;
  at::Tensor rstd, qkv, head_rstd;  // for the backward
};

// With `keep`, what the backward needs stays: then q and k are rotated into a buffer of their own
// if there is a norm between projection and rotation. Without, all happens in place.
BeforeResult RunBefore(const DecoderLayer& layer, const at::Tensor& x_TE, const RopeRows& rope,
                       bool keep) {
  const HeadShape shape{layer.heads(), layer.kv_heads(), layer.head_dim(), layer.eps()};
  const bool normed = layer.q_norm().defined();
  BeforeResult result;
  const at::Tensor y = Norm(x_TE, layer.input_norm(), layer.eps(), keep ? &result.rstd : nullptr);
  result.qkv = TimesTransposed(y, layer.qkv().weight, layer.qkv().bias);
  const int64_t rows = x_TE.size(0);
  at::Tensor turned = result.qkv;
  if (keep && normed) {
    turned = at::empty({rows, shape.all() * shape.dim}, x_TE.options());
    result.head_rstd = at::empty({rows, shape.all()}, x_TE.options());
  }
  DispatchElement(x_TE, [&]<typename T>() {
    kernels::Kernels<T>().head_rope(
        HeadArgs<T>(shape, result.qkv, layer.q_norm(), layer.k_norm(), rope),
        turned.mutable_data_ptr<T>(), turned.stride(0),
        result.head_rstd.defined() ? result.head_rstd.mutable_data_ptr<T>() : nullptr);
  });
  const auto heads = [&](const at::Tensor& from, int64_t first, int64_t count) {
    return from.as_strided({rows, count, shape.dim}, {from.stride(0), shape.dim, 1},
                           first * shape.dim);
  };
  result.input = {heads(turned, 0, shape.heads), heads(turned, shape.heads, shape.kv_heads),
                  heads(result.qkv, shape.all(), shape.kv_heads), x_TE};
  return result;
}

// Slices of a joint gradient, one for each leaf.
void Split(const at::Tensor& joint, std::initializer_list<int64_t> rows, variable_list& to) {
  int64_t row = 0;
  for (int64_t n : rows) {
    to.push_back(joint.defined() ? joint.narrow(0, row, n) : at::Tensor());
    row += n;
  }
}

struct BeforeFunction : torch::autograd::Function<BeforeFunction> {
  // The leaves are arguments so that autograd has edges to them; the work uses the layer's joint
  // tensors. The layer outlives the graph (both belong to the transformer).
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& norm,
                               const at::Tensor& /*wq*/, const at::Tensor& /*wk*/,
                               const at::Tensor& /*wv*/, const OptionalTensor& /*bq*/,
                               const OptionalTensor& /*bk*/, const OptionalTensor& /*bv*/,
                               const OptionalTensor& q_norm, const OptionalTensor& k_norm,
                               const DecoderLayer& layer, const RopeRows& rope) {
    at::AutoDispatchBelowADInplaceOrView guard;
    BeforeResult r = RunBefore(layer, x, rope, /*keep=*/true);
    // The projections before the norm are needed again only if there is one.
    const at::Tensor raw = q_norm ? r.qkv : at::Tensor();
    ctx->save_for_backward({x, norm, r.rstd, raw, r.head_rstd, q_norm.value_or(at::Tensor()),
                            k_norm.value_or(at::Tensor()), rope.cos_PH, rope.sin_PH, rope.index_T,
                            layer.qkv().weight});
    ctx->saved_data["heads"] = layer.heads();
    ctx->saved_data["kv_heads"] = layer.kv_heads();
    ctx->saved_data["bias"] = layer.qkv().bias.defined();
    ctx->saved_data["eps"] = layer.eps();
    // The input goes through, so that its gradient from the residual branch arrives here and is
    // added within the norm's backward.
    return {r.input.q_THD, r.input.k_TKD, r.input.v_TKD, x.alias()};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &norm = saved[1], &rstd = saved[2], &raw = saved[3];
    const at::Tensor &head_rstd = saved[4], &q_norm = saved[5], &k_norm = saved[6],
                     &weight = saved[10];
    const RopeRows rope{saved[7], saved[8], saved[9]};
    const at::Tensor &d_q = grads[0], &d_k = grads[1], &d_v = grads[2];
    const int64_t rows = x.size(0), dim = d_q.size(2);
    const HeadShape shape{ctx->saved_data["heads"].toInt(), ctx->saved_data["kv_heads"].toInt(),
                          dim, ctx->saved_data["eps"].toDouble()};

    at::Tensor d_qkv = at::empty({rows, (shape.all() + shape.kv_heads) * dim}, x.options());
    at::Tensor d_q_norm, d_k_norm;
    if (q_norm.defined()) {
      d_q_norm = at::zeros_like(q_norm);
      d_k_norm = at::zeros_like(k_norm);
    }
    // Rows may be strided (slices of attention's joint gradient), heads may not.
    const auto packed = [](const at::Tensor& t) {
      return t.stride(2) == 1 && t.stride(1) == t.size(2) ? t : t.contiguous();
    };
    const at::Tensor dq = packed(d_q), dk = packed(d_k);
    DispatchElement(x, [&]<typename T>() {
      auto args = HeadArgs<T>(shape, raw.defined() ? raw : d_qkv, q_norm, k_norm, rope);
      kernels::Kernels<T>().head_rope_backward(
          args, DataOrNull<T>(head_rstd), dq.const_data_ptr<T>(), dq.stride(0),
          dk.const_data_ptr<T>(), dk.stride(0), d_qkv.mutable_data_ptr<T>(), d_qkv.stride(0),
          d_q_norm.defined() ? d_q_norm.mutable_data_ptr<T>() : nullptr,
          d_k_norm.defined() ? d_k_norm.mutable_data_ptr<T>() : nullptr);
    });
    d_qkv.narrow(1, shape.all() * dim, shape.kv_heads * dim).copy_(d_v.reshape({rows, -1}));

    const at::Tensor y = NormAgain(x, norm, rstd);
    const at::Tensor d_weight = at::mm(d_qkv.t(), y);
    const at::Tensor d_bias = ctx->saved_data["bias"].toBool() ? d_qkv.sum(0) : at::Tensor();
    at::Tensor d_norm;
    const at::Tensor dx =
        NormBackward(Times(d_qkv, weight), x, norm, rstd, grads[3].contiguous(), d_norm);

    variable_list result = {dx, d_norm};
    const int64_t q = shape.heads * dim, kv = shape.kv_heads * dim;
    Split(d_weight, {q, kv, kv}, result);
    Split(d_bias, {q, kv, kv}, result);
    result.insert(result.end(), {d_q_norm, d_k_norm, at::Tensor(), at::Tensor()});
    return result;
  }
};

struct AfterFunction : torch::autograd::Function<AfterFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& attended_THD,
                            const at::Tensor& residual, const at::Tensor& /*wo*/,
                            const OptionalTensor& /*bo*/, const DecoderLayer& layer) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor attended = attended_THD.contiguous().flatten(1);
    ctx->save_for_backward({attended, layer.o().weight});
    ctx->saved_data["heads"] = attended_THD.size(1);
    ctx->saved_data["bias"] = layer.o().bias.defined();
    return ProjectOnto(residual, attended, layer.o());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &attended = saved[0], &weight = saved[1];
    const at::Tensor dy = grads[0].contiguous();
    const at::Tensor d_bias = ctx->saved_data["bias"].toBool() ? dy.sum(0) : at::Tensor();
    const at::Tensor d_attended =
        Times(dy, weight).unflatten(1, {ctx->saved_data["heads"].toInt(), -1});
    return {d_attended, dy, at::mm(dy.t(), attended), d_bias, at::Tensor()};
  }
};

struct MlpResult {
  at::Tensor y, rstd, gate_up;
};

MlpResult RunMlp(const DecoderLayer& layer, const at::Tensor& x_TE, bool keep) {
  MlpResult r;
  const at::Tensor normed = Norm(x_TE, layer.post_norm(), layer.eps(), keep ? &r.rstd : nullptr);
  const DecoderLayer::Linear& gate_up = layer.mlps()[0].gate_up;
  r.gate_up = TimesTransposed(normed, gate_up.weight, gate_up.bias);
  const int64_t rows = x_TE.size(0), width = r.gate_up.size(1) / 2;
  at::Tensor h = at::empty({rows, width}, x_TE.options());
  DispatchElement(h, [&]<typename T>() {
    kernels::Kernels<T>().silu_mul(rows, width, r.gate_up.const_data_ptr<T>(),
                                   h.mutable_data_ptr<T>());
  });
  r.y = ProjectOnto(x_TE, h, layer.mlps()[0].down);
  return r;
}

struct MlpFunction : torch::autograd::Function<MlpFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& norm,
                            const at::Tensor& /*w_gate*/, const at::Tensor& /*w_up*/,
                            const OptionalTensor& /*b_gate*/, const OptionalTensor& /*b_up*/,
                            const at::Tensor& /*w_down*/, const OptionalTensor& /*b_down*/,
                            const DecoderLayer& layer) {
    at::AutoDispatchBelowADInplaceOrView guard;
    MlpResult r = RunMlp(layer, x, /*keep=*/true);
    ctx->save_for_backward(
        {norm, x, r.rstd, r.gate_up, layer.mlps()[0].gate_up.weight, layer.mlps()[0].down.weight});
    ctx->saved_data["bias"] = layer.mlps()[0].down.bias.defined();
    return r.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &norm = saved[0], &x = saved[1], &rstd = saved[2], &gate_up = saved[3],
                     &w_gate_up = saved[4], &w_down = saved[5];
    const bool bias = ctx->saved_data["bias"].toBool();
    const at::Tensor dy = grads[0].contiguous();
    const int64_t rows = x.size(0), width = gate_up.size(1) / 2;

    const at::Tensor dh = Times(dy, w_down);
    at::Tensor d_gate_up = at::empty(gate_up.sizes(), gate_up.options());
    at::Tensor h = at::empty(dh.sizes(), dh.options());
    DispatchElement(h, [&]<typename T>() {
      kernels::Kernels<T>().silu_mul_backward(
          rows, width, gate_up.const_data_ptr<T>(), dh.const_data_ptr<T>(),
          d_gate_up.mutable_data_ptr<T>(), h.mutable_data_ptr<T>());
    });
    const at::Tensor d_w_down = at::mm(dy.t(), h);
    const at::Tensor d_b_down = bias ? dy.sum(0) : at::Tensor();
    const at::Tensor d_w_gate_up = at::mm(d_gate_up.t(), NormAgain(x, norm, rstd));
    const at::Tensor d_b_gate_up = bias ? d_gate_up.sum(0) : at::Tensor();
    at::Tensor d_norm;
    const at::Tensor dx = NormBackward(Times(d_gate_up, w_gate_up), x, norm, rstd, dy, d_norm);

    variable_list result = {dx, d_norm};
    Split(d_w_gate_up, {width, width}, result);
    Split(d_b_gate_up, {width, width}, result);
    result.insert(result.end(), {d_w_down, d_b_down, at::Tensor()});
    return result;
  }
};

OptionalTensor Leaf(const std::vector<at::Tensor>& leaves, size_t part) {
  return leaves.empty() ? std::nullopt : OptionalTensor(leaves[part]);
}

}  // namespace

AttentionInput BeforeAttention(const DecoderLayer& layer, const at::Tensor& x_TE,
                               const RopeRows& rope) {
  const at::Tensor x = x_TE.contiguous();
  // All leaves of a layer are trained, or none.
  if (!at::GradMode::is_enabled() || !(x.requires_grad() || layer.input_norm().requires_grad())) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return RunBefore(layer, x, rope, /*keep=*/false).input;
  }
  const auto optional = [](const at::Tensor& t) {
    return t.defined() ? OptionalTensor(t) : std::nullopt;
  };
  const auto& weights = layer.qkv().leaf_weights;
  const auto& biases = layer.qkv().leaf_biases;
  const variable_list out = BeforeFunction::apply(
      x, layer.input_norm(), weights[0], weights[1], weights[2], Leaf(biases, 0), Leaf(biases, 1),
      Leaf(biases, 2), optional(layer.q_norm()), optional(layer.k_norm()), layer, rope);
  return {out[0], out[1], out[2], out[3]};
}

at::Tensor AfterAttention(const DecoderLayer& layer, const at::Tensor& attended_THD,
                          const at::Tensor& residual_TE) {
  if (!at::GradMode::is_enabled() ||
      !(residual_TE.requires_grad() || attended_THD.requires_grad() ||
        layer.input_norm().requires_grad())) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return ProjectOnto(residual_TE, attended_THD.contiguous().flatten(1), layer.o());
  }
  return AfterFunction::apply(attended_THD, residual_TE, layer.o().leaf_weights[0],
                              Leaf(layer.o().leaf_biases, 0), layer);
}

at::Tensor Mlp(const DecoderLayer& layer, const at::Tensor& x_TE) {
  const at::Tensor x = x_TE.contiguous();
  if (!at::GradMode::is_enabled() || !(x.requires_grad() || layer.post_norm().requires_grad())) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return RunMlp(layer, x, /*keep=*/false).y;
  }
  const auto& [mlp, down] = layer.mlps()[0];
  return MlpFunction::apply(x, layer.post_norm(), mlp.leaf_weights[0], mlp.leaf_weights[1],
                            Leaf(mlp.leaf_biases, 0), Leaf(mlp.leaf_biases, 1),
                            down.leaf_weights[0], Leaf(down.leaf_biases, 0), layer);
}

}  // namespace tramontane::cpu
