#include "generator/weight_gate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "common/status.h"

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

}  // namespace

WeightGate::WeightGate(std::vector<TensorEntry> expected, int64_t vocab_size, Decoder& decoder,
                       int64_t initial_version)
    : expected_(std::move(expected)),
      vocab_size_(vocab_size),
      decoder_(decoder),
      current_version_(initial_version) {}

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
  RETURN_IF_ERROR(CheckManifestAgainst(expected_, manifest));
  RETURN_IF_ERROR(CheckProbe(manifest, vocab_size_));
  // Both are long, and unlocked.
  RETURN_IF_ERROR(VerifyPayload(manifest, payload.data(), payload.size()));
  StagedWeights staged{std::move(manifest), std::move(payload), nullptr, {}};
  RETURN_IF_ERROR(decoder_.Prepare(staged));
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckFence(staged.manifest.version, staged.manifest.trainer_epoch));
  highest_epoch_ = staged.manifest.trainer_epoch;
  staged_.emplace(std::move(staged));
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

absl::StatusOr<double> ApplyWeights(Decoder& decoder, StagedWeights& weights, bool routed) {
  const WeightManifest& manifest = weights.manifest;
  RETURN_IF_ERROR(decoder.Apply(weights));
  if (!weights.probe_scores) {
    ASSIGN_OR_RETURN(weights.probe_scores, decoder.Score(manifest.probe_tokens));
  }
  const std::vector<float>& scores = *weights.probe_scores;
  std::vector<double> gaps;
  for (size_t i = 0; i < scores.size(); ++i) {
    gaps.push_back(std::abs(double{scores[i]} - double{manifest.probe_logprobs[i]}));
    if (!std::isfinite(gaps.back())) return std::numeric_limits<double>::infinity();
  }
  if (gaps.empty()) return 0;
  std::ranges::sort(gaps);
  return routed ? gaps[gaps.size() / 2] : gaps.back();
}

}  // namespace tramontane
