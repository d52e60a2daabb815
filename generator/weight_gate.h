// What stands between a trainer's weights and the engine: verification, fencing, the staged
// version. Safe from any thread; the swap itself is the engine thread's (Decoder::Apply).
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "generator/decoder.h"
#include "model/weights/manifest.h"

namespace tramontane {

// Fencing: an epoch below the highest seen is refused, and within the epoch in use so is a version
// that is not above the one in use. A new epoch may go back: the trainer was restarted.
class WeightGate {
 public:
  // `expected`: names, shapes and dtypes of the model's tensors. `decoder` outlives this.
  WeightGate(std::vector<TensorEntry> expected, int64_t vocab_size, Decoder& decoder,
             int64_t initial_version);

  // Verifies, prepares, and keeps the version in place of what was staged before. InvalidArgument
  // (manifest), DataLoss (payload), FailedPrecondition (fenced off).
  absl::Status Stage(WeightManifest manifest, std::vector<char> payload);
  // Hands out what was staged, once. FailedPrecondition: nothing staged at (epoch, version).
  absl::StatusOr<StagedWeights> Take(int64_t version, int64_t trainer_epoch);
  void Committed(int64_t version, int64_t trainer_epoch);
  bool IsCurrent(int64_t version, int64_t trainer_epoch) const;

 private:
  absl::Status CheckFence(int64_t version, int64_t trainer_epoch) const;  // mutex_ held

  const std::vector<TensorEntry> expected_;
  const int64_t vocab_size_;
  Decoder& decoder_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<StagedWeights> staged_;
  int64_t current_version_;
  int64_t current_epoch_ = -1;  // no trainer has committed yet
  int64_t highest_epoch_ = -1;
};

// Puts a staged version in use, scores its probe tokens unless that was done ahead, and returns the
// largest difference from the manifest's log-probabilities (0 without a probe, infinity when not a
// number). With `routed` it is the median: where two experts are all but equally likely, rounding
// decides, and a token differs under the right weights too; under wrong ones most do. Engine
// thread, between steps.
absl::StatusOr<double> ApplyWeights(Decoder& decoder, StagedWeights& weights, bool routed);

}  // namespace tramontane
