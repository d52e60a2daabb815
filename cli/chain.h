// A run of several stages (common/stages.h), one after the other on this machine.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/run_dir.h"
#include "common/config.h"

namespace tramontane {

// Every stage's configuration, row and file that can be looked at before anything starts.
// InvalidArgument names the stage.
absl::Status CheckChain(const RunConfig& chain);

// One entry a stage: {"name", "kind", "state": "done" | "started" | "pending", "run_dir"}; of a
// done one what its output.json says, too. DataLoss: an output.json that is none.
absl::StatusOr<Json> StageStates(const RunConfig& chain, const std::string& run_dir);

// The configuration of a run directory if it is a chain's; empty: it is one run's, or no run's.
absl::StatusOr<std::optional<RunConfig>> LoadChain(const std::string& run_dir);

// Runs the stage of this configuration in this folder, which is new or to be gone on with.
using StageRunner = std::function<absl::Status(const RunConfig& stage, RunDir& dir, bool resume)>;

// Runs what is not done, in order; `note` gets {"event": "stage", …} at each stage's start and end.
// The first error of a stage, which it names; Cancelled: told to stop. Called again it goes on
// where it was, whatever killed it.
absl::Status RunChain(const RunConfig& chain, const std::string& run_dir, const StageRunner& runner,
                      const std::function<void(const Json&)>& note);

}  // namespace tramontane
