#include "generator/length_guide.h"

#include <ATen/ATen.h>

#include <utility>

#include "common/status.h"
#include "generator/intra_op_threads.h"
#include "model/guard_torch.h"
#include "model/length_predictor.h"

namespace tramontane {

LengthGuide::LengthGuide(std::shared_ptr<const LengthPredictor> predictor, int threads)
    : predictor_(std::move(predictor)), threads_(threads) {}

absl::StatusOr<std::span<const float>> LengthGuide::Weights(std::span<const float> hidden_D,
                                                            int32_t remaining) {
  if (!std::exchange(entered_, true)) SetIntraOpThreadsHere(threads_);
  const c10::InferenceMode inference;
  RETURN_IF_ERROR(GuardTorch([&] {
    const auto size = static_cast<int64_t>(hidden_D.size());
    const at::Tensor hidden_1D =
        at::from_blob(const_cast<float*>(hidden_D.data()), {1, size}, at::kFloat);
    const at::Tensor weights = BudgetWeights(predictor_->All(hidden_1D), remaining).contiguous();
    weights_V_.assign(weights.const_data_ptr<float>(),
                      weights.const_data_ptr<float>() + weights.numel());
  }));
  return std::span<const float>(weights_V_);
}

}  // namespace tramontane
