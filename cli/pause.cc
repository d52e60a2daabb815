#include "cli/pause.h"

#include <filesystem>
#include <iostream>

#include "cli/chain.h"
#include "common/status.h"
#include "services/run_files.h"
#include "trainer/ledger/pause_file.h"

namespace tramontane {
namespace {

// The folder whose run loop is meant.
absl::StatusOr<std::string> LoopDir(const std::string& run_dir) {
  absl::StatusOr<RunConfig> config = LoadRunConfig(run_dir + "/configs/config.json");
  if (!config.ok()) return Annotate(config.status(), "is " + run_dir + " a run directory?");
  if (config->stages.empty()) return run_dir;
  ASSIGN_OR_RETURN(const Json stages, StageStates(*config, run_dir));
  for (const Json& stage : stages) {
    if (stage["state"] == "started") return stage["run_dir"].get<std::string>();
  }
  return absl::FailedPreconditionError(run_dir + ": no stage is at work");
}

int Answer(const CommandContext& context, const std::string& where,
           const absl::StatusOr<std::string>& dir, const absl::Status& status, bool paused) {
  if (!dir.ok()) return Fail(context, where, dir.status());
  if (!status.ok()) return Fail(context, where, status);
  if (context.json) return PrintJson({{"run_dir", *dir}, {"paused", paused}});
  std::cout << *dir << (paused ? ": paused" : ": goes on") << "\n";
  return 0;
}

}  // namespace

int PauseCommand(const CommandContext& context, const std::string& run_dir,
                 const std::string& reason) {
  const absl::StatusOr<std::string> dir = LoopDir(run_dir);
  return Answer(context, "pause", dir, dir.ok() ? PauseRun(*dir, reason) : dir.status(), true);
}

int UnpauseCommand(const CommandContext& context, const std::string& run_dir) {
  const absl::StatusOr<std::string> dir = LoopDir(run_dir);
  return Answer(context, "unpause", dir, dir.ok() ? UnpauseRun(*dir) : dir.status(), false);
}

}  // namespace tramontane
