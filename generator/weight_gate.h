// What stands between a trainer's weights and the model: verification, fencing, the staged
// payload. Safe from any thread; the swap itself is the engine thread's (ApplyWeights).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/weights/manifest.h"

namespace tramontane {

class Transformer;

struct StagedWeights {
  WeightManifest manifest;
  std::vector<char> payload;
};

// Fencing: an epoch below the highest seen is refused, and within the epoch in use so is a version
// that is not above the one in use. A new epoch may go back: the trainer was restarted.
class WeightGate {
 public:
  // `model` outlives this; only its names, shapes and dtypes are read.
  WeightGate(const Transformer& model, int64_t initial_version);

  // Verifies and keeps the payload in place of what was staged before. InvalidArgument (manifest),
  // DataLoss (payload), FailedPrecondition (fenced off, or not this model's).
  absl::Status Stage(WeightManifest manifest, std::vector<char> payload);
  // Hands out what was staged, once. FailedPrecondition: nothing staged at (epoch, version).
  absl::StatusOr<StagedWeights> Take(int64_t version, int64_t trainer_epoch);
  void Committed(int64_t version, int64_t trainer_epoch);
  bool IsCurrent(int64_t version, int64_t trainer_epoch) const;

 private:
  absl::Status CheckFence(int64_t version, int64_t trainer_epoch) const;  // mutex_ held

  const Transformer& model_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<StagedWeights> staged_;
  int64_t current_version_;
  int64_t current_epoch_ = -1;  // no trainer has committed yet
  int64_t highest_epoch_ = -1;
};

// Copies a staged version into the model in place, then scores its probe tokens and returns the
// largest difference from the manifest's log-probabilities (0 without a probe, infinity when not
// a number). Engine thread, between steps.
absl::StatusOr<double> ApplyWeights(Transformer& model, const StagedWeights& weights);

}  // namespace tramontane
