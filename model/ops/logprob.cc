#include "model/ops/logprob.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "model/ops/cpu/kernels.h"
#include "model/ops/dispatch.h"
#include "model/ops/multiply.h"

namespace tramontane {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// float32 at least: a bfloat16 head is widened before the product.
at::Tensor Wide(const at::Tensor& t) {
  return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat);
}

struct Chunk {
  int64_t first, rows;
};
std::vector<Chunk> Chunks(int64_t rows, int64_t chunk_rows) {
  std::vector<Chunk> chunks;
  for (int64_t first = 0; first < rows; first += chunk_rows) {
    chunks.push_back({first, std::min(chunk_rows, rows - first)});
  }
  return chunks;
}

// Fills lse, logprob and (if defined) entropy for one chunk of logits.
void GatherChunk(const at::Tensor& logits_RV, double inv_temperature, const at::Tensor& targets_R,
                 at::Tensor logprob_R, at::Tensor lse_R, at::Tensor entropy_R) {
  if (HasCpuKernels(logits_RV)) {
    DispatchElement(logits_RV, [&]<typename T>() {
      kernels::Kernels<T>().log_softmax_gather(
          logits_RV.size(0), logits_RV.size(1), logits_RV.const_data_ptr<T>(), inv_temperature,
          targets_R.const_data_ptr<int64_t>(), logprob_R.mutable_data_ptr<T>(),
          lse_R.mutable_data_ptr<T>(),
          entropy_R.defined() ? entropy_R.mutable_data_ptr<T>() : nullptr);
    });
    return;
  }
  const at::Tensor z = logits_RV * inv_temperature;
  lse_R.copy_(z.logsumexp(1));
  logprob_R.copy_(z.gather(1, targets_R.unsqueeze(1)).squeeze(1) - lse_R);
  if (entropy_R.defined()) entropy_R.copy_(lse_R - (at::softmax(z, 1) * z).sum(1));
}

// Logits become their gradient.
void BackwardChunk(at::Tensor& logits_RV, double inv_temperature, const at::Tensor& targets_R,
                   const at::Tensor& lse_R, const at::Tensor& d_logprob_R,
                   const at::Tensor& entropy_R, const at::Tensor& d_entropy_R) {
  if (HasCpuKernels(logits_RV)) {
    DispatchElement(logits_RV, [&]<typename T>() {
      kernels::Kernels<T>().log_softmax_backward(
          logits_RV.size(0), logits_RV.size(1), logits_RV.mutable_data_ptr<T>(), inv_temperature,
          targets_R.const_data_ptr<int64_t>(), lse_R.const_data_ptr<T>(),
          d_logprob_R.const_data_ptr<T>(), DataOrNull<T>(entropy_R), DataOrNull<T>(d_entropy_R));
    });
    return;
  }
  const at::Tensor logp = logits_RV * inv_temperature - lse_R.unsqueeze(1);
  at::Tensor d = logp.exp() * -d_logprob_R.unsqueeze(1);
  d.scatter_add_(1, targets_R.unsqueeze(1), d_logprob_R.unsqueeze(1));
  if (d_entropy_R.defined()) {
    d -= logp.exp() * (logp + entropy_R.unsqueeze(1)) * d_entropy_R.unsqueeze(1);
  }
  logits_RV = d * inv_temperature;
}

struct Result {
  at::Tensor logprob, lse, entropy;
};

Result RunForward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                  double inv_temperature, bool want_entropy, int64_t chunk_rows) {
  const int64_t rows = hidden.size(0);
  const at::Tensor wide_weight = Wide(weight);
  const auto options = wide_weight.options().requires_grad(false);
  Result r{at::empty({rows}, options), at::empty({rows}, options),
           want_entropy ? at::empty({rows}, options) : at::Tensor()};
  for (const Chunk& c : Chunks(rows, chunk_rows)) {
    const auto part = [&](const at::Tensor& t) {
      return t.defined() ? t.narrow(0, c.first, c.rows) : t;
    };
    GatherChunk(TimesTransposed(Wide(part(hidden)), wide_weight), inv_temperature, part(targets),
                part(r.logprob), part(r.lse), part(r.entropy));
  }
  return r;
}

struct LogprobFunction : torch::autograd::Function<LogprobFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& weight, const at::Tensor& targets,
                               double inv_temperature, bool want_entropy, int64_t chunk_rows) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Result r = RunForward(hidden, weight, targets, inv_temperature, want_entropy, chunk_rows);
    ctx->save_for_backward({hidden, weight, targets, r.lse, r.entropy});
    ctx->saved_data["inv_temperature"] = inv_temperature;
    ctx->saved_data["chunk_rows"] = chunk_rows;
    return want_entropy ? variable_list{r.logprob, r.entropy} : variable_list{r.logprob};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &hidden = saved[0], &weight = saved[1], &targets = saved[2], &lse = saved[3];
    const at::Tensor& entropy = saved[4];
    const double inv_temperature = ctx->saved_data["inv_temperature"].toDouble();
    const at::Tensor wide_weight = Wide(weight);
    const at::Tensor d_logprob = grads[0].contiguous();
    const at::Tensor d_entropy = grads.size() > 1 ? grads[1].contiguous() : at::Tensor();
    at::Tensor d_hidden = at::empty_like(hidden), d_weight = at::zeros_like(wide_weight);
    for (const Chunk& c : Chunks(hidden.size(0), ctx->saved_data["chunk_rows"].toInt())) {
      const auto part = [&](const at::Tensor& t) {
        return t.defined() ? t.narrow(0, c.first, c.rows) : t;
      };
      const at::Tensor h = Wide(part(hidden));
      at::Tensor logits = TimesTransposed(h, wide_weight);
      BackwardChunk(logits, inv_temperature, part(targets), part(lse), part(d_logprob),
                    part(entropy), part(d_entropy));
      part(d_hidden).copy_(Times(logits, wide_weight));
      d_weight.addmm_(logits.t(), h);
    }
    return {d_hidden, d_weight.to(weight.scalar_type()), {}, {}, {}, {}};
  }
};

}  // namespace

LogprobResult ChunkedLogprob(const at::Tensor& hidden_RD, const at::Tensor& weight_VD,
                             const at::Tensor& targets_R, double temperature, bool want_entropy,
                             int64_t chunk_rows) {
  TORCH_CHECK(temperature > 0, "log-probability: temperature must be positive");
  TORCH_CHECK(chunk_rows > 0 && targets_R.numel() == hidden_RD.size(0),
              "log-probability: one target a row");
  TORCH_CHECK(targets_R.numel() == 0 || (targets_R.min().item<int64_t>() >= 0 &&
                                         targets_R.max().item<int64_t>() < weight_VD.size(0)),
              "log-probability: a target lies outside the vocabulary");
  const at::Tensor hidden = hidden_RD.contiguous(), targets = targets_R.contiguous();
  if (at::GradMode::is_enabled() && (hidden.requires_grad() || weight_VD.requires_grad())) {
    const variable_list out = LogprobFunction::apply(hidden, weight_VD, targets, 1 / temperature,
                                                     want_entropy, chunk_rows);
    return {out[0], want_entropy ? out[1] : at::Tensor()};
  }
  const Result r =
      RunForward(hidden, weight_VD, targets, 1 / temperature, want_entropy, chunk_rows);
  return {r.logprob, r.entropy};
}

}  // namespace tramontane
