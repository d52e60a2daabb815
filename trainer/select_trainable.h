// The Trainable of run.kind reject_sample: its steps select rows instead of learning from groups,
// so that sampling, scoring, the journal and recovery are the RL loop's own.
//
//   <run>/selected/step_<n>.jsonl  the rows of step n; a step done again writes the same file
//   <run>/selected.jsonl           all of them, a prompt's of the first step that gave it any
#pragma once

#include <memory>
#include <string>

#include "common/config.h"
#include "common/metrics.h"
#include "trainer/trainable.h"

namespace tramontane {

class Transformer;

class SelectTrainable final : public Trainable {
 public:
  struct Options {
    std::string run_dir, checkpoints_dir;
    std::string tokenizer;  // SHA-256
    RejectSection reject;
    double probe_tolerance = 0;
    int keep_last = 1;
  };
  // `model` is what is sampled from; it never changes.
  SelectTrainable(Options options, std::shared_ptr<Transformer> model, MetricsRegistry& metrics);

  // metrics: selected_rows, prompts_with_rows.
  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step) override;
  absl::Status Check(const Group& group) const override;
  WeightManifest Snapshot(int64_t version, std::vector<char>& payload) const override;
  // The step and the ledger alone.
  absl::StatusOr<int64_t> SaveCheckpoint(const CheckpointState& state) override;

  // After the last step: gathers the rows of steps 1 to `steps`. How many there are;
  // FailedPrecondition when there is none.
  absl::StatusOr<int64_t> Gather(int64_t steps) const;
  std::string rows_path() const { return options_.run_dir + "/selected.jsonl"; }

 private:
  std::string StepPath(int64_t step) const;

  const Options options_;
  const std::shared_ptr<Transformer> model_;
  Counter rows_;
};

}  // namespace tramontane
