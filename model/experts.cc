#include "model/experts.h"

#include <torch/types.h>

#include <vector>

#include "common/rollout.h"
#include "model/ops/rms_norm.h"

namespace tramontane {

namespace {

// Whose experts differ, whatever their order. bool [T]
at::Tensor Differs(const at::Tensor& a_TK, const at::Tensor& b_TK) {
  return std::get<0>(a_TK.sort(1)).ne(std::get<0>(b_TK.sort(1))).any(1);
}

// int64 [T, K], the likeliest first unless they were asked for.
at::Tensor Choose(const at::Tensor& probability_TX, int64_t experts, Routing* routing,
                  int64_t nth) {
  const at::NoGradGuard no_grad;
  const at::Tensor own_TK = std::get<1>(probability_TX.topk(experts, 1));
  if (routing == nullptr) return own_TK;
  at::Tensor taken_TK = own_TK;
  if (routing->asked_TLK.defined()) {
    const at::Tensor asked_TK =
        routing->asked_TLK.select(1, nth).to(own_TK.device(), own_TK.scalar_type());
    const at::Tensor free_T1 = asked_TK.narrow(1, 0, 1).eq(int64_t{kNoRoute});
    taken_TK = at::where(free_T1, own_TK, asked_TK);
    routing->replayed += own_TK.size(0) - free_T1.sum().item<int64_t>();
    routing->differing += Differs(own_TK, taken_TK).sum().item<int64_t>();
  }
  routing->taken_TLK.select(1, nth).copy_(taken_TK);
  return taken_TK;
}

at::Tensor SwiGlu(const DecoderLayer::MlpWeights& mlp, const at::Tensor& x) {
  const auto& gate_up = mlp.gate_up.leaf_weights;
  return at::linear(at::silu(at::linear(x, gate_up[0])) * at::linear(x, gate_up[1]),
                    mlp.down.leaf_weights[0]);
}

// Sum over each token's experts, in the order of `chosen`. Tokens go to an expert side by side.
at::Tensor Mix(const DecoderLayer& layer, const at::Tensor& normed_TE, const at::Tensor& chosen_TK,
               const at::Tensor& weight_TK) {
  const int64_t tokens = chosen_TK.size(0), k = chosen_TK.size(1);
  const at::Tensor slots = chosen_TK.flatten();  // token t's i-th expert is slot t k + i
  const at::Tensor order = slots.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto experts = static_cast<int64_t>(layer.mlps().size());
  const at::Tensor counts = at::bincount(slots, {}, experts).to(at::kCPU);
  const at::Tensor inputs = normed_TE.index_select(0, order.div(k, "floor"));
  std::vector<at::Tensor> outputs;
  int64_t begin = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t count = counts.const_data_ptr<int64_t>()[e];
    if (count > 0) outputs.push_back(SwiGlu(layer.mlps()[e], inputs.narrow(0, begin, count)));
    begin += count;
  }
  const at::Tensor output_TKE =
      at::cat(outputs).index_select(0, order.argsort()).unflatten(0, {tokens, k});
  return (output_TKE * weight_TK.unsqueeze(-1)).sum(1);
}

}  // namespace

at::Tensor ExpertsMlp(const DecoderLayer& layer, const at::Tensor& x_TE, Routing* routing,
                      int64_t nth) {
  const at::Tensor normed_TE = RmsNorm(x_TE, layer.post_norm(), layer.eps());
  const auto wide = x_TE.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor probability_TX = at::linear(normed_TE, layer.router()).softmax(-1, wide);
  const at::Tensor chosen_TK =
      Choose(probability_TX.detach(), layer.experts_per_token(), routing, nth);
  at::Tensor weight_TK = probability_TX.gather(1, chosen_TK);
  if (layer.normalise_experts()) weight_TK = weight_TK / weight_TK.sum(-1, /*keepdim=*/true);
  return x_TE + Mix(layer, normed_TE, chosen_TK, weight_TK.to(x_TE.scalar_type()));
}

}  // namespace tramontane
