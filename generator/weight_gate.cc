#include "generator/weight_gate.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/packed_attention.h"
#include "model/transformer.h"
#include "model/weights/flatten.h"

namespace tramontane {
namespace {

std::string Name(int64_t version, int64_t epoch) {
  return "version " + std::to_string(version) + " of trainer epoch " + std::to_string(epoch);
}

absl::Status CheckProbe(const WeightManifest& manifest, int64_t vocab_size) {
  if (manifest.probe_tokens.empty() && manifest.probe_logprobs.empty()) return absl::OkStatus();
  if (manifest.probe_logprobs.size() + 1 != manifest.probe_tokens.size())
    return absl::InvalidArgumentError(
        "probe_logprobs must have one entry less than probe_tokens: " +
        std::to_string(manifest.probe_logprobs.size()) + " and " +
        std::to_string(manifest.probe_tokens.size()));
  for (int32_t token : manifest.probe_tokens) {
    if (token < 0 || token >= vocab_size)
      return absl::InvalidArgumentError("probe_tokens: " + std::to_string(token) +
                                        " is outside the vocabulary");
  }
  return absl::OkStatus();
}

double ProbeGap(Transformer& model, const WeightManifest& manifest) {
  const int64_t size = static_cast<int64_t>(manifest.probe_tokens.size());
  if (size < 2) return 0;
  const at::Tensor tokens_T = at::tensor(manifest.probe_tokens, at::kLong);
  PackedAttention attention({0, size});
  const at::Tensor hidden_TD = model.Forward(tokens_T, at::arange(size, at::kLong), attention);
  const at::Tensor logprobs_TV = model.Logits(hidden_TD.narrow(0, 0, size - 1)).log_softmax(-1);
  const at::Tensor scored =
      logprobs_TV.gather(1, tokens_T.narrow(0, 1, size - 1).unsqueeze(1)).squeeze(1);
  const double gap =
      (scored - at::tensor(manifest.probe_logprobs, at::kFloat)).abs().max().item<double>();
  return std::isfinite(gap) ? gap : std::numeric_limits<double>::infinity();
}

}  // namespace

WeightGate::WeightGate(const Transformer& model, int64_t initial_version)
    : model_(model), current_version_(initial_version) {}

absl::Status WeightGate::CheckFence(int64_t version, int64_t trainer_epoch) const {
  if (trainer_epoch < highest_epoch_)
    return absl::FailedPreconditionError(Name(version, trainer_epoch) + " is fenced off: epoch " +
                                         std::to_string(highest_epoch_) + " has been seen");
  if (trainer_epoch == current_epoch_ && version <= current_version_)
    return absl::FailedPreconditionError(Name(version, trainer_epoch) + " is not above version " +
                                         std::to_string(current_version_) + " in use");
  return absl::OkStatus();
}

absl::Status WeightGate::Stage(WeightManifest manifest, std::vector<char> payload) {
  {
    std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(CheckFence(manifest.version, manifest.trainer_epoch));
  }
  RETURN_IF_ERROR(CheckManifest(manifest));
  RETURN_IF_ERROR(CheckManifestAgainst(model_, manifest));
  RETURN_IF_ERROR(CheckProbe(manifest, model_.config().vocab_size));
  RETURN_IF_ERROR(VerifyPayload(manifest, payload.data(), payload.size()));  // long, unlocked
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckFence(manifest.version, manifest.trainer_epoch));
  highest_epoch_ = manifest.trainer_epoch;
  staged_.emplace(StagedWeights{std::move(manifest), std::move(payload)});
  return absl::OkStatus();
}

absl::StatusOr<StagedWeights> WeightGate::Take(int64_t version, int64_t trainer_epoch) {
  std::lock_guard lock(mutex_);
  if (!staged_ || staged_->manifest.version != version ||
      staged_->manifest.trainer_epoch != trainer_epoch)
    return absl::FailedPreconditionError(
        Name(version, trainer_epoch) + " is not staged; " +
        (staged_ ? Name(staged_->manifest.version, staged_->manifest.trainer_epoch) + " is"
                 : std::string("nothing is")));
  StagedWeights taken = std::move(*staged_);
  staged_.reset();
  return taken;
}

void WeightGate::Committed(int64_t version, int64_t trainer_epoch) {
  std::lock_guard lock(mutex_);
  current_version_ = version;
  current_epoch_ = trainer_epoch;
}

bool WeightGate::IsCurrent(int64_t version, int64_t trainer_epoch) const {
  std::lock_guard lock(mutex_);
  return current_version_ == version && current_epoch_ == trainer_epoch;
}

absl::StatusOr<double> ApplyWeights(Transformer& model, const StagedWeights& weights) {
  absl::Status copied;
  double gap = 0;
  RETURN_IF_ERROR(GuardTorch([&] {
    copied = CopyInto(model, weights.manifest, weights.payload.data());
    if (copied.ok()) gap = ProbeGap(model, weights.manifest);
  }));
  RETURN_IF_ERROR(copied);
  return gap;
}

}  // namespace tramontane
