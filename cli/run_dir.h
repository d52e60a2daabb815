// The run directory, the one place where everything of a run lies:
//
//   configs/config.json     the validated configuration, defaults included
//   configs/resolved.json   the same with this attempt's addresses filled in; what services read
//   logs/attempt_<n>/       one log per process; logs/latest is a link to the newest
//   endpoints.json          where each process listens now (`tramontane status`)
//   prometheus_targets.json the same for Prometheus' file discovery
//   metrics.jsonl, rollouts/, checkpoints/, journal: the trainer's
//   output.json             what came out, once it is all there (common/stages.h)
//   stages/<run>-<stage>/   of a chain: the run directory of each stage
//   summary.json, curves.svg: written at the end
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/supervisor.h"
#include "common/config.h"

namespace tramontane {

enum class RunDirMode {
  kNew,     // AlreadyExists when the name is taken
  kResume,  // NotFound when there is nothing to go on from
  kClean,   // removes what is there first
};

class RunDir {
 public:
  // <config.run.output_dir>/<config.run.name>; an empty name is made from the dataset, the model
  // and a short id, and put into `config`. Held by a lock file: a second run on the same folder is
  // FailedPrecondition.
  static absl::StatusOr<RunDir> Create(RunConfig& config, RunDirMode mode);
  RunDir(RunDir&& other) noexcept;
  RunDir& operator=(RunDir&&) = delete;
  ~RunDir();

  const std::string& path() const { return path_; }
  std::string config_path() const { return path_ + "/configs/config.json"; }
  std::string resolved_path() const { return path_ + "/configs/resolved.json"; }
  const std::string& log_dir() const { return log_dir_; }
  int attempt() const { return attempt_; }

  absl::Status WriteConfig(const RunConfig& config) const;
  absl::Status WriteResolved(const RunConfig& config) const;
  absl::Status WriteEndpoints(const std::string& run_name,
                              const std::vector<ProcessView>& processes) const;

 private:
  RunDir() = default;
  absl::Status Lock();
  absl::Status NewAttempt();

  std::string path_, log_dir_;
  int attempt_ = 0;
  int lock_fd_ = -1;
};

// Relative paths are relative to where the command was given; services may run elsewhere.
void MakePathsAbsolute(RunConfig& config);

// CONFIG of `run --resume` may be a run directory: its configs/config.json is then meant.
std::string ConfigPathOf(const std::string& config_or_run_dir);

}  // namespace tramontane
