// A chain of stages as configurations: each stage is a run of its own kind (run.kind) in a run
// directory of its own, <run>/stages/<run>-<stage>, and ends with output.json there:
//   {"kind", "model" or "rows": path, "reason", "step"}
// which is written when all it names is on the disk. It is the only record of what is done.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

// What a stage starts from, as paths.
struct StageInputs {
  std::string model;  // empty: the chain's own
  std::string data;   // one file; empty: what the configuration says
  std::vector<std::string> models;
};

// The configuration of stage `index` (from 0): chain < its preset < its `set` < what the chain
// decides. `run_dir` is the chain's.
absl::StatusOr<RunConfig> StageConfig(const RunConfig& chain, size_t index,
                                      const std::string& run_dir, const StageInputs& inputs);
std::string StageRunDir(const std::string& run_dir, const RunConfig& chain, size_t index);
std::string StageOutputPath(const std::string& stage_run_dir);

// The place of the stage that `reference` of stage `index` names: one before it. -1: "base".
// NotFound: it is a path. InvalidArgument: it looks like a name, and there is no such stage before,
// or one that gives rows where a model is wanted (or the other way round).
absl::StatusOr<int> FindStage(const RunConfig& chain, size_t index, const std::string& reference,
                              bool wants_model);
// Of an empty `from`: the newest stage before `index` that gives a model, or -1.
int NewestModel(const RunConfig& chain, size_t index);

// Names, references and every stage's configuration, with stand-ins for what is not made yet.
absl::Status ValidateStages(const RunConfig& chain);

}  // namespace tramontane
