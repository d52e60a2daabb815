// Checkpoints: <run>/checkpoints/step_N with hf/ (a Hugging Face folder), optimiser state, and
// manifest.json written last (size and SHA-256 of every file, step, epoch, journal head, cursor).
// Made in a temporary folder, fsynced, renamed. The newest that verifies is loaded.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

class Learner;

struct CheckpointState {
  int64_t step = 0;           // = weight version
  int64_t trainer_epoch = 0;
  Json ledger;                // opaque to the checkpoint: trainer/ledger writes and reads it
};

struct LoadedCheckpoint {
  CheckpointState state;
  std::string dir;     // …/step_N
  std::string hf_dir;  // …/step_N/hf
};

absl::Status SaveCheckpoint(const std::string& checkpoints_dir, const Learner& learner,
                            const std::string& tokenizer_source_dir, const CheckpointState& state,
                            int keep_last);
// NotFound when there is none; walks back past damaged ones, logging each.
absl::StatusOr<LoadedCheckpoint> FindNewestCheckpoint(const std::string& checkpoints_dir);

}  // namespace tramontane
