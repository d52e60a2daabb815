// A learner, a publisher and generators without tensors, for the run loop over a real queue,
// journal and disk. The learner's "weights" are a hash over all that it was trained on, so two
// histories with equal weights are equal histories.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config.h"
#include "queue/work_queue.h"
#include "trainer/run_loop.h"

namespace tramontane {

class FakeTrainable final : public Trainable {
 public:
  FakeTrainable(std::string run_dir, int64_t max_staleness_versions, int step_ms);

  // Loads the checkpoint of the run directory, if there is one.
  std::optional<CheckpointState> Restore();

  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step) override;
  absl::Status Check(const Group& group) const override {
    return check ? check(group) : absl::OkStatus();
  }
  WeightManifest Snapshot(int64_t version, std::vector<char>& payload) const override;
  absl::StatusOr<int64_t> SaveCheckpoint(const CheckpointState& state) override;

  const std::string& weights() const { return weights_; }
  int64_t steps_taken() const { return steps_taken_; }
  std::function<bool(int64_t step)> skip;           // true: report the step as not finite
  std::function<absl::Status(const Group&)> check;  // what Check answers; none: everything is fine
  std::function<absl::Status(int64_t step)> refuse_step;  // an error: the step is not taken
  static std::string Next(const std::string& weights, int64_t step,
                          const std::vector<std::string>& gids);

 private:
  const std::string run_dir_;
  const int64_t max_staleness_;
  const int step_ms_;
  std::string weights_;
  int64_t step_ = 0;
  int64_t steps_taken_ = 0;
};

// What the checkpoint in a run directory holds: its step, and the weights.
struct FakeCheckpoint {
  CheckpointState state;
  std::string weights;
};
absl::StatusOr<FakeCheckpoint> ReadFakeCheckpoint(const std::string& run_dir);

// Leaves the version in a file, where generators of any process find it.
class FilePublisher final : public WeightPublisher {
 public:
  explicit FilePublisher(std::string run_dir) : run_dir_(std::move(run_dir)) {}
  absl::Status Publish(const WeightManifest& manifest, const std::vector<char>& payload) override;
  absl::Status WaitForReceiver(int64_t version, double timeout_s) override;
  std::optional<double> ProbeGap() const override { return 1e-6; }  // as if a generator had swapped

 private:
  const std::string run_dir_;
};

struct FakeGeneratorOptions {
  RedisSection redis = {};
  std::string run_id = {}, run_dir = {}, worker = {};
  uint64_t seed = 0;
  int work_ms = 0;
  // Chances in percent: the group fails, is given back, is forgotten (its lease expires), one of
  // its verdicts is an infrastructure failure.
  int fail = 0, release = 0, abandon = 0, infra = 0;
  int same_reward = 20;  // chance in percent that all samples are alike
};
// Works until `stop`; waits out a Redis that is away. Appends the gid of every claimed train group
// to <run_dir>/claimed.<worker>.
void RunFakeGenerator(const FakeGeneratorOptions& options, const std::function<bool()>& stop);

RunConfig LoopConfig(const RedisSection& redis, int64_t max_steps);
std::vector<PromptRow> LoopRows(int count);

}  // namespace tramontane
