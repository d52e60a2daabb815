// What this build can compute of the `algorithm` block; the rest is refused by name, never ignored.
#pragma once

#include "absl/status/status.h"
#include "common/config.h"

namespace tramontane {

// Unimplemented names the knob; InvalidArgument a combination or a missing bound.
// Expects a block that passed common's ValidateAlgorithm.
absl::Status CheckSupported(const AlgorithmConfig& algorithm);

// What the learner cannot do in a run although the pure functions can: anything that needs a
// reference model.
absl::Status CheckSupportedInRun(const AlgorithmConfig& algorithm);

}  // namespace tramontane
