// The trainer's main loop: issue prompts → gather verified groups → journal → step → publish →
// evaluate → checkpoint. Torch and gRPC stay behind the collaborators it is given.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "model/weights/manifest.h"
#include "trainer/loop_state.h"
#include "trainer/trainable.h"

namespace tramontane {

// Hands a weight version to the generators. Must not block on a dead one for longer than its
// own deadlines; errors of single generators are its business. Implemented in services/trainer.
class WeightPublisher {
 public:
  virtual ~WeightPublisher() = default;
  // An error says that nobody can be offered this version; it may be tried again.
  virtual absl::Status Publish(const WeightManifest& manifest,
                               const std::vector<char>& payload) = 0;
  // Waits until at least one generator serves `version` (used before the first step and by tests).
  virtual absl::Status WaitForReceiver(int64_t version, double timeout_s) = 0;
  // Largest |generator − trainer| log-probability of the probe tokens, in nats, over the
  // generators' newest commits: the same tokens at the same version. Empty before the first.
  virtual std::optional<double> ProbeGap() const = 0;
};

class RunLoop {
 public:
  struct Options {
    RunConfig config;
    std::string run_dir;
    std::string run_id;
    // true: go on with the run directory's journal; false: a journal with records is an error.
    bool resume = false;
    // State of the checkpoint whose weights and optimiser the Trainable holds; without one it holds
    // the weights that the run starts from. Steps journalled after it are replayed by Run().
    std::optional<CheckpointState> restored;
    // Receives one JSON object an event ("step", "eval", "checkpoint", "waiting", …; docs/cli.md),
    // from any thread, one at a time. Empty: JSON lines on standard output.
    std::function<void(const Json&)> emit;
  };
  // Opens journal, blobs and queue, and fences off any earlier trainer. Collaborators outlive the
  // loop. Errors: Unavailable (Redis), FailedPrecondition (run directory in use, or not resumable),
  // DataLoss (journal or checkpoint disagree), ResourceExhausted (disk).
  static absl::StatusOr<std::unique_ptr<RunLoop>> Create(Options options, Trainable& trainable,
                                                         std::vector<PromptRow> train_rows,
                                                         std::vector<PromptRow> eval_rows,
                                                         WeightPublisher& publisher,
                                                         MetricsRegistry& metrics);
  ~RunLoop();

  // Runs to max_steps (or a stop rule) unless `stop` becomes true; then checkpoints and returns.
  // Call once. Redis being away is waited out. A full disk is ResourceExhausted, naming the file;
  // what was journalled by then stays, and a resumed run goes on from it.
  absl::Status Run(const std::atomic<bool>& stop);
  int64_t epoch() const;  // this trainer's fencing epoch
  LoopState state() const;

 private:
  class Impl;
  explicit RunLoop(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
