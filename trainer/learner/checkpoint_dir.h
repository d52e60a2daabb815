// Checkpoint folders as files: sealing, publishing, finding, pruning. Torch-free, so that crash
// tests need no tensors; trainer/learner/checkpoint.h adds the contents.
//
// A folder counts only with a manifest.json that verifies, and that is written last:
//   {"format_version": 1, "step", "trainer_epoch", "ledger", "files": {"hf/…": {"bytes", "sha256"}}}
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/learner/checkpoint.h"

namespace tramontane {

// A whole save: `fill` writes the contents into the empty folder that it is told, and what it leaves
// becomes step_N with its manifest, in one rename (exchanging it with an earlier step_N); everything
// is on disk on return, and the newest `keep_last` are kept. A save that fails leaves nothing behind,
// and its error names the step; what one left that was killed goes with the next of that step.
absl::Status WriteCheckpoint(const std::string& checkpoints_dir, const CheckpointState& state,
                             int keep_last,
                             const std::function<absl::Status(const std::string& dir)>& fill);

// The state of a folder whose every file has the size and hash of its manifest.
// DataLoss names the file; NotFound: no manifest.
absl::StatusOr<CheckpointState> VerifyCheckpoint(const std::string& dir);

}  // namespace tramontane
