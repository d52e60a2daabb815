// `tramontane validate CONFIG`: everything that can be known to be wrong before a run is started.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

// The part of it that `run` does before it starts anything: every row of data.train and data.eval
// names a verifier of the run, and a built-in one can read its gold answer. No tokenizer is needed.
absl::Status CheckAnswers(const RunConfig& config);

// Tokenises every row of every dataset, routes each to its verifier, checks gold answers of
// built-in graders and lengths against the cache. The first error names file and line.
absl::StatusOr<Json> ValidateRun(const RunConfig& config);

}  // namespace tramontane
