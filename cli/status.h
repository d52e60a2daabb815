// `tramontane status RUN`: asks every process of a run what it does and whom it waits for. Works
// when some of them, or all, are dead.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/busy_meter.h"
#include "cli/command.h"
#include "cli/supervisor.h"
#include "common/rollout.h"

namespace tramontane {

// One question to each process of <run_dir>/endpoints.json, `timeout_s` at most each. Of a chain
// those of the stage that is at work (`stage`), and `stages` as cli/chain.h lists them, with that
// one's step and steps.
absl::StatusOr<Json> QueryStatus(const std::string& run_dir, double timeout_s);

// How long the engines of the generators among `processes` have worked; those that do not answer in
// `timeout_s` are left out.
std::map<std::string, EngineTime> QueryEngineTimes(const std::vector<ProcessView>& processes,
                                                   double timeout_s);
std::string RenderStatus(const Json& status);
std::string RenderStages(const Json& stages);

// Prints once, or again every `interval_s` until interrupted when `watch`.
int StatusCommand(const CommandContext& context, const std::string& run_dir, bool watch,
                  double interval_s);

}  // namespace tramontane
