// <run>/paused.json: while it is there, the run takes no step. Written by the run itself (bands,
// starvation) or by `tramontane pause`, removed by `tramontane unpause`; a restart finds it as it was.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"

namespace tramontane {

// An earlier reason stays.
absl::Status PauseRun(const std::string& run_dir, const std::string& reason);
// NotFound: the run was not paused.
absl::Status UnpauseRun(const std::string& run_dir);
// Why the run is paused; empty when it is not.
std::optional<std::string> PauseReason(const std::string& run_dir);

}  // namespace tramontane
