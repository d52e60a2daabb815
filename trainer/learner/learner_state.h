// What a learner remembers between steps besides weights and moments, as learner.json of a
// checkpoint. Torch-free.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/learner/entropy_control.h"

namespace tramontane {

struct LearnerState {
  EntropyControl entropy;
  int64_t reference_version = 0;  // weight version that the reference model is a copy of
};

absl::Status SaveLearnerState(const std::string& dir, const LearnerState& state);

// NotFound: an older checkpoint, which had no such file. DataLoss: not what SaveLearnerState
// writes.
absl::StatusOr<LearnerState> LoadLearnerState(const std::string& dir);

}  // namespace tramontane
