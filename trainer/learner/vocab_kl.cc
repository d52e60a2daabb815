#include "trainer/learner/vocab_kl.h"

#include <torch/torch.h>

#include <algorithm>

#include "model/ops/multiply.h"

namespace tramontane {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor Wide(const Tensor& t) { return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat); }

struct ChunkKl {
  Tensor log_p_RV, log_q_RV;
  Tensor kl_R;
};

struct KlShape {
  double inv_temperature;
  bool forward;
  int64_t q_top_k;  // 0: all
};

// The k likeliest, renormalised; the others far below what exp() tells from 0, so that 0·log 0 is 0.
Tensor CutToTop(const Tensor& log_q_RV, int64_t k) {
  const auto [top_RK, index_RK] = log_q_RV.topk(k, /*dim=*/1);
  return at::full_like(log_q_RV, -1e4).scatter(1, index_RK, top_RK.log_softmax(1));
}

ChunkKl ComputeChunk(const Tensor& hidden_RD, const Tensor& weight_VD, const Tensor& q_hidden_RE,
                     const Tensor& q_weight_VE, const KlShape& shape) {
  const auto& [inv_temperature, forward, q_top_k] = shape;
  ChunkKl chunk;
  chunk.log_p_RV = (TimesTransposed(Wide(hidden_RD), weight_VD) * inv_temperature).log_softmax(1);
  chunk.log_q_RV = (TimesTransposed(Wide(q_hidden_RE), q_weight_VE) * inv_temperature)
                       .log_softmax(1)
                       .to(chunk.log_p_RV.scalar_type());
  if (q_top_k > 0 && q_top_k < chunk.log_q_RV.size(1))
    chunk.log_q_RV = CutToTop(chunk.log_q_RV, q_top_k);
  const Tensor difference_RV = chunk.log_p_RV - chunk.log_q_RV;
  chunk.kl_R = forward ? -(chunk.log_q_RV.exp() * difference_RV).sum(1)
                       : (chunk.log_p_RV.exp() * difference_RV).sum(1);
  return chunk;
}

struct VocabKlFunction : torch::autograd::Function<VocabKlFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& weight,
                        const Tensor& q_hidden, const Tensor& q_weight, double inv_temperature,
                        bool forward_kl, int64_t chunk_rows, int64_t q_top_k) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({hidden, weight, q_hidden, q_weight});
    ctx->saved_data["inv_temperature"] = inv_temperature;
    ctx->saved_data["forward_kl"] = forward_kl;
    ctx->saved_data["chunk_rows"] = chunk_rows;
    ctx->saved_data["q_top_k"] = q_top_k;
    const Tensor wide_weight = Wide(weight), wide_q = Wide(q_weight);
    Tensor kl_R = at::empty({hidden.size(0)}, wide_weight.options().requires_grad(false));
    for (int64_t first = 0; first < hidden.size(0); first += chunk_rows) {
      const int64_t rows = std::min(chunk_rows, hidden.size(0) - first);
      kl_R.narrow(0, first, rows)
          .copy_(ComputeChunk(hidden.narrow(0, first, rows), wide_weight,
                              q_hidden.narrow(0, first, rows), wide_q,
                              {inv_temperature, forward_kl, q_top_k})
                     .kl_R);
    }
    return kl_R;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &hidden = saved[0], &weight = saved[1], &q_hidden = saved[2];
    const double inv_temperature = ctx->saved_data["inv_temperature"].toDouble();
    const bool forward_kl = ctx->saved_data["forward_kl"].toBool();
    const int64_t chunk_rows = ctx->saved_data["chunk_rows"].toInt();
    const int64_t q_top_k = ctx->saved_data["q_top_k"].toInt();
    const Tensor wide_weight = Wide(weight), wide_q = Wide(saved[3]);
    Tensor d_hidden = at::empty_like(hidden), d_weight = at::zeros_like(wide_weight);
    for (int64_t first = 0; first < hidden.size(0); first += chunk_rows) {
      const int64_t rows = std::min(chunk_rows, hidden.size(0) - first);
      const Tensor h = hidden.narrow(0, first, rows);
      const ChunkKl chunk = ComputeChunk(h, wide_weight, q_hidden.narrow(0, first, rows), wide_q,
                                         {inv_temperature, forward_kl, q_top_k});
      const Tensor p_RV = chunk.log_p_RV.exp();
      // d/dz: forward p − q; reverse p·(log p − log q − KL).
      Tensor d_logits = forward_kl
                            ? p_RV - chunk.log_q_RV.exp()
                            : p_RV * (chunk.log_p_RV - chunk.log_q_RV - chunk.kl_R.unsqueeze(1));
      d_logits.mul_(grads[0].narrow(0, first, rows).unsqueeze(1) * inv_temperature);
      d_hidden.narrow(0, first, rows).copy_(Times(d_logits, wide_weight));
      d_weight.addmm_(d_logits.t(), Wide(h));
    }
    return {d_hidden, d_weight.to(weight.scalar_type()), {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

Tensor VocabKl(const HeadInput& pi, const HeadInput& q, double temperature, KlDirection direction,
               int64_t chunk_rows, int64_t q_top_k) {
  TORCH_CHECK(temperature > 0 && chunk_rows > 0, "KL: temperature and chunk must be positive");
  TORCH_CHECK(pi.hidden_RD.size(0) == q.hidden_RD.size(0),
              "KL: one row of each distribution a token");
  TORCH_CHECK(pi.weight_VD.size(0) == q.weight_VD.size(0), "KL: the vocabularies differ, ",
              pi.weight_VD.size(0), " and ", q.weight_VD.size(0));
  return VocabKlFunction::apply(pi.hidden_RD, pi.weight_VD, q.hidden_RD.detach(),
                                q.weight_VD.detach(), 1 / temperature,
                                direction == KlDirection::kForward, chunk_rows, q_top_k);
}

}  // namespace tramontane
