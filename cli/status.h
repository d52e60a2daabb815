// `tramontane status RUN`: asks every process of a run what it does and whom it waits for. Works
// when some of them, or all, are dead.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "cli/command.h"
#include "common/rollout.h"

namespace tramontane {

// One question to each process of <run_dir>/endpoints.json, `timeout_s` at most each.
absl::StatusOr<Json> QueryStatus(const std::string& run_dir, double timeout_s);
std::string RenderStatus(const Json& status);

// Prints once, or again every `interval_s` until interrupted when `watch`.
int StatusCommand(const CommandContext& context, const std::string& run_dir, bool watch,
                  double interval_s);

}  // namespace tramontane
