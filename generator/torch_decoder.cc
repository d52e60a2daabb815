#include "generator/torch_decoder.h"

#include <ATen/ATen.h>

#include <utility>

#include "common/status.h"
#include "generator/intra_op_threads.h"
#include "model/guard_torch.h"
#include "model/packed_attention.h"
#include "model/weights/flatten.h"

namespace tramontane {
namespace {

at::ScalarType DtypeOf(const Transformer& model) {
  return model.NamedWeights().front().second.scalar_type();
}

}  // namespace

TorchDecoder::TorchDecoder(const EngineOptions& options, std::shared_ptr<Transformer> model)
    : model_(std::move(model)),
      threads_(options.threads),
      cache_(model_->config(), options.kv_blocks, options.kv_block_tokens, DtypeOf(*model_)),
      batch_(model_->config(), cache_, options.kv_block_tokens,
             options.max_running_sequences + options.prefill_chunk_tokens, DtypeOf(*model_),
             options.threads) {}

// ATen keeps thread counts by thread, so the first call sets this one's.
void TorchDecoder::EnterEngineThread() {
  if (!entered_) SetIntraOpThreadsHere(threads_);
  entered_ = true;
}

absl::StatusOr<LogitRows> TorchDecoder::Forward(const StepPlan& plan) {
  EnterEngineThread();
  // Parameters are ordinary tensors made elsewhere; nothing computed here is ever differentiated.
  const c10::InferenceMode inference;
  LogitRows rows;
  RETURN_IF_ERROR(GuardTorch([&] {
    cache_.Copy(plan.copies);
    batch_.Build(plan, /*ahead=*/0);
    hidden_TD_ = model_->Forward(batch_.tokens_T(), batch_.positions_T(), batch_, &routing_);
    if (plan.logit_rows == 0) return;
    const at::Tensor sampled_RD = batch_.SampledRows(hidden_TD_);
    logits_RV_ = model_->Logits(sampled_RD).contiguous();
    sampled_RD_ = sampled_RD.to(at::kFloat).contiguous();
    rows = {logits_RV_.const_data_ptr<float>(), logits_RV_.size(1), logits_RV_.size(1),
            sampled_RD_.const_data_ptr<float>(), sampled_RD_.size(1)};
  }));
  return rows;
}

absl::StatusOr<std::vector<int32_t>> TorchDecoder::Foresee(const StepPlan& plan) {
  const c10::InferenceMode inference;
  std::vector<int32_t> likeliest;
  RETURN_IF_ERROR(GuardTorch([&] {
    std::vector<int64_t> from;
    for (const StepItem& item : plan.items) {
      for (int32_t i = 0; i < item.count; ++i) from.push_back(item.row + i);
    }
    batch_.Build(plan, /*ahead=*/1);
    const at::Tensor hidden_TD =
        model_->MtpForward(hidden_TD_.index_select(0, at::tensor(from, at::kLong)),
                           batch_.tokens_T(), batch_.positions_T(), batch_);
    if (plan.logit_rows == 0) return;
    const at::Tensor tokens_R =
        model_->Logits(batch_.SampledRows(hidden_TD)).argmax(-1).to(at::kInt).contiguous();
    likeliest.assign(tokens_R.const_data_ptr<int32_t>(),
                     tokens_R.const_data_ptr<int32_t>() + tokens_R.numel());
  }));
  return likeliest;
}

std::span<const uint8_t> TorchDecoder::routes() const {
  const at::Tensor& taken = routing_.taken_TLK;
  if (!taken.defined()) return {};
  return {taken.const_data_ptr<uint8_t>(), static_cast<size_t>(taken.numel())};
}

// The copy into the model's tensors is all there is to a swap, and must wait for the step's end.
absl::Status TorchDecoder::Prepare(StagedWeights&) { return absl::OkStatus(); }

absl::Status TorchDecoder::Apply(StagedWeights& weights) {
  EnterEngineThread();
  const c10::InferenceMode inference;
  absl::Status copied;
  RETURN_IF_ERROR(
      GuardTorch([&] { copied = CopyInto(*model_, weights.manifest, weights.payload.data()); }));
  return copied;
}

absl::StatusOr<std::vector<float>> TorchDecoder::Score(const std::vector<int32_t>& tokens) {
  if (tokens.size() < 2) return std::vector<float>();
  EnterEngineThread();
  const c10::InferenceMode inference;
  std::vector<float> scores;
  RETURN_IF_ERROR(GuardTorch([&] {
    const int64_t size = static_cast<int64_t>(tokens.size());
    const at::Tensor tokens_T = at::tensor(tokens, at::kLong);
    PackedAttention attention({0, size});
    const at::Tensor hidden_TD = model_->Forward(tokens_T, at::arange(size, at::kLong), attention);
    const at::Tensor logprobs_TV = model_->Logits(hidden_TD.narrow(0, 0, size - 1)).log_softmax(-1);
    const at::Tensor scored =
        logprobs_TV.gather(1, tokens_T.narrow(0, 1, size - 1).unsqueeze(1)).contiguous();
    scores.assign(scored.const_data_ptr<float>(), scored.const_data_ptr<float>() + size - 1);
  }));
  return scores;
}

}  // namespace tramontane
