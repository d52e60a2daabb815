#include "model/packed_attention.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>

#include "model/ops/cpu/kernels.h"
#include "model/ops/dispatch.h"

namespace tramontane {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// PackedAttention's arguments.
struct Segments {
  const std::vector<int64_t>&offsets, &continues;
};

template <typename T>
kernels::PackedHeads<T> Heads(const Segments& segments, const at::Tensor& q_THD,
                              const at::Tensor& k_TKD, const at::Tensor& v_TKD, double scale,
                              int64_t window_tokens) {
  kernels::PackedHeads<T> heads;
  heads.segments = static_cast<int64_t>(segments.offsets.size()) - 1;
  heads.offsets = segments.offsets.data();
  heads.continues = segments.continues.empty() ? nullptr : segments.continues.data();
  heads.heads = q_THD.size(1);
  heads.kv_heads = k_TKD.size(1);
  heads.head_dim = q_THD.size(2);
  heads.q = q_THD.const_data_ptr<T>();
  heads.k = k_TKD.const_data_ptr<T>();
  heads.v = v_TKD.const_data_ptr<T>();
  heads.q_stride = q_THD.stride(0);
  heads.k_stride = k_TKD.stride(0);
  heads.v_stride = v_TKD.stride(0);
  heads.scale = scale;
  heads.window = window_tokens;
  return heads;
}

// Rows may be strided, the heads within a row not.
at::Tensor RowContiguous(const at::Tensor& t_THD) {
  return t_THD.stride(2) == 1 && t_THD.stride(1) == t_THD.size(2) ? t_THD : t_THD.contiguous();
}

at::Tensor ForwardCpu(const Segments& segments, const at::Tensor& q, const at::Tensor& k,
                      const at::Tensor& v, double scale, int64_t window, at::Tensor* lse_TH) {
  at::Tensor out = at::empty(q.sizes(), q.options());
  if (lse_TH != nullptr) *lse_TH = at::empty({q.size(0), q.size(1)}, q.options());
  DispatchElement(q, [&]<typename T>() {
    kernels::Kernels<T>().packed_attention(Heads<T>(segments, q, k, v, scale, window),
                                           out.mutable_data_ptr<T>(),
                                           lse_TH ? lse_TH->mutable_data_ptr<T>() : nullptr);
  });
  return out;
}

struct PackedAttentionFunction : torch::autograd::Function<PackedAttentionFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const Segments& segments, double scale,
                            int64_t window) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor lse;
    at::Tensor out = ForwardCpu(segments, q, k, v, scale, window, &lse);
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["offsets"] = segments.offsets;
    ctx->saved_data["continues"] = segments.continues;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["window"] = window;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4];
    const at::Tensor d_out = grads[0].contiguous();
    const std::vector<int64_t> offsets = ctx->saved_data["offsets"].toIntVector(),
                               continues = ctx->saved_data["continues"].toIntVector();
    // One buffer, rows [dq | dk | dv], as the projection before wants them.
    const int64_t rows = q.size(0), heads = q.size(1), kv_heads = k.size(1), dim = q.size(2);
    at::Tensor d_qkv = at::empty({rows, heads + 2 * kv_heads, dim}, q.options());
    at::Tensor d_q = d_qkv.narrow(1, 0, heads), d_k = d_qkv.narrow(1, heads, kv_heads);
    at::Tensor d_v = d_qkv.narrow(1, heads + kv_heads, kv_heads);
    DispatchElement(q, [&]<typename T>() {
      kernels::PackedHeadsGrad<T> grad;
      grad.out = out.const_data_ptr<T>();
      grad.d_out = d_out.const_data_ptr<T>();
      grad.lse = lse.const_data_ptr<T>();
      grad.d_q = d_q.mutable_data_ptr<T>();
      grad.d_k = d_k.mutable_data_ptr<T>();
      grad.d_v = d_v.mutable_data_ptr<T>();
      grad.dq_stride = grad.dk_stride = grad.dv_stride = d_qkv.stride(0);
      kernels::Kernels<T>().packed_attention_backward(
          Heads<T>({offsets, continues}, q, k, v, ctx->saved_data["scale"].toDouble(),
                   ctx->saved_data["window"].toInt()),
          grad);
    });
    return {d_q, d_k, d_v, {}, {}, {}};
  }
};

// One scaled dot product: the queries are the last positions of the keys.
at::Tensor SegmentAten(const at::Tensor& q_SHD, const at::Tensor& k_NKD, const at::Tensor& v_NKD,
                       double scale, int64_t window) {
  const int64_t rows = q_SHD.size(0), keys = k_NKD.size(0);
  std::optional<at::Tensor> mask;
  if (rows < keys || (window > 0 && window < keys)) {
    const auto options = at::TensorOptions().dtype(at::kBool).device(q_SHD.device());
    mask = at::ones({rows, keys}, options).tril(keys - rows);
    if (window > 0) mask = mask->triu(keys - rows - (window - 1));
  }
  const auto batched = [](const at::Tensor& t) { return t.transpose(0, 1).unsqueeze(0); };
  return at::scaled_dot_product_attention(batched(q_SHD), batched(k_NKD), batched(v_NKD), mask, 0.0,
                                          !mask.has_value(), scale, /*enable_gqa=*/true)
      .squeeze(0)
      .transpose(0, 1);
}

// Any device and dtype: one scaled dot product per segment.
at::Tensor RunAten(const Segments& segments, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                   const at::Tensor& v_TKD, double scale, int64_t window) {
  const std::vector<int64_t>& offsets = segments.offsets;
  std::vector<at::Tensor> outs;
  outs.reserve(offsets.size());
  at::Tensor k_before, v_before;  // of the last segment that continues none
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t start = offsets[s], length = offsets[s + 1] - start;
    const auto segment = [&](const at::Tensor& t) { return t.narrow(0, start, length); };
    at::Tensor k = segment(k_TKD), v = segment(v_TKD);
    if (segments.continues.empty() || segments.continues[s] == 0) {
      k_before = k;
      v_before = v;
    } else {
      k = at::cat({k_before, k});
      v = at::cat({v_before, v});
    }
    if (length > 0) outs.push_back(SegmentAten(segment(q_THD), k, v, scale, window));
  }
  return outs.empty() ? at::zeros_like(q_THD) : at::cat(outs, 0);
}

}  // namespace

PackedAttention::PackedAttention(std::vector<int64_t> offsets, std::vector<int64_t> continues)
    : offsets_(std::move(offsets)), continues_(std::move(continues)) {
  TORCH_CHECK(!offsets_.empty() && offsets_.front() == 0,
              "packed attention: offsets must start at 0");
  for (size_t s = 0; s + 1 < offsets_.size(); ++s) {
    TORCH_CHECK(offsets_[s] <= offsets_[s + 1], "packed attention: offsets must not decrease");
  }
  TORCH_CHECK(
      continues_.empty() || (continues_.size() + 1 == offsets_.size() && continues_.front() == 0),
      "packed attention: one number for each segment says whether it continues another, and "
      "the first continues none");
}

at::Tensor PackedAttention::Run(int64_t /*layer*/, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                                const at::Tensor& v_TKD, double scale, int64_t window_tokens) {
  TORCH_CHECK(offsets_.back() == q_THD.size(0), "packed attention: offsets end at ",
              offsets_.back(), ", tokens at ", q_THD.size(0));
  const Segments segments{offsets_, continues_};
  if (!HasCpuKernels(q_THD)) return RunAten(segments, q_THD, k_TKD, v_TKD, scale, window_tokens);
  const at::Tensor q = RowContiguous(q_THD), k = RowContiguous(k_TKD), v = RowContiguous(v_TKD);
  const bool needs_grad =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  if (!needs_grad) return ForwardCpu(segments, q, k, v, scale, window_tokens, nullptr);
  return PackedAttentionFunction::apply(q, k, v, segments, scale, window_tokens);
}

std::vector<int64_t> PackedAttention::RopeLengths(const std::vector<int64_t>& positions) const {
  const bool continued = std::ranges::any_of(continues_, [](int64_t c) { return c != 0; });
  TORCH_CHECK(!continued, "packed attention: a beginning that several share has no one length");
  std::vector<int64_t> lengths(positions.size());
  for (size_t s = 0; s + 1 < offsets_.size(); ++s) {
    for (int64_t t = offsets_[s]; t < offsets_[s + 1]; ++t)
      lengths[t] = offsets_[s + 1] - offsets_[s];
  }
  return lengths;
}

}  // namespace tramontane
