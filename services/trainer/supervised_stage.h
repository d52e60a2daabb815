// The kinds of run that learn from rows alone: sft (also as a cold start before RL), distill by
// logits, dpo, length_predictor. From a model folder to a model folder.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "services/run_files.h"

namespace tramontane {

class RankGroup;

// Whether an RL run begins with a cold start.
bool HasColdStart(const RunConfig& config);

struct SupervisedStage {
  const RunConfig& config;  // run.kind rl: its cold start
  const TextTools& text;
  std::string base_dir;  // model to start from
  std::string out_dir;   // exists only when complete; then the stage is done already
  RankGroup* ranks = nullptr;                              // processes that learn together
  std::function<void(const Json&)> emit;  // {"event": "sft_step", …}, {"event": "sft_eval", …}
  std::function<void(int64_t step, int64_t steps)> progress;
};

// Why and where a stage ended: "steps", or an exit rule of `sft`.
struct SupervisedEnd {
  std::string reason = "steps";
  int64_t step = 0;
};

// Checkpoints lie in <out_dir>.checkpoints while it works, every trainer.checkpoint_interval_steps
// and when `stop` becomes true (then Cancelled): weights, moments, and how many rows were drawn.
// A call that finds one goes on from it, bit for bit as if it had never ended.
// Errors: InvalidArgument names the data's file and line; FailedPrecondition: the rows are others
// than those of the checkpoint; Internal: more than trainer.max_nonfinite_steps in a row.
absl::StatusOr<SupervisedEnd> RunSupervisedStage(const SupervisedStage& stage,
                                                 MetricsRegistry& metrics,
                                                 const std::atomic<bool>& stop);

}  // namespace tramontane
