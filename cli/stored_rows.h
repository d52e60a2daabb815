// Rows for a supervised stage from the rollouts that an RL stage stored: selected as rejection
// sampling selects (reject.keep), without sampling anew.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

// Writes the rows of the run's train rollouts to `path`: of each prompt those of its newest group
// that gives any, prompts in the order of their first such group. `last_step` is the run's; with
// reject.last_steps above 0 older steps are left out. `tokenizer`: SHA-256 of what the rollouts
// were sampled with. How many rows there are. Errors: NotFound (no rollouts), DataLoss (file and
// line), FailedPrecondition (nothing is kept).
absl::StatusOr<int64_t> SelectStoredRows(const std::string& run_dir, int64_t last_step,
                                         const RejectSection& reject, const std::string& tokenizer,
                                         const std::string& path);

}  // namespace tramontane
