// The real Trainable: a Learner and the folder its checkpoints go to.
#pragma once

#include <string>

#include "trainer/trainable.h"

namespace tramontane {

class LearnerTrainable final : public Trainable {
 public:
  // `learner` outlives it. `tokenizer_source_dir`: where the checkpoint's tokenizer files come
  // from.
  LearnerTrainable(Learner& learner, std::string checkpoints_dir, std::string tokenizer_source_dir,
                   int keep_last);

  absl::StatusOr<StepReport> Step(const std::vector<Group>& groups, int64_t step) override;
  absl::Status Check(const Group& group) const override;
  WeightManifest Snapshot(int64_t version, std::vector<char>& payload) const override;
  absl::StatusOr<int64_t> SaveCheckpoint(const CheckpointState& state) override;

 private:
  Learner& learner_;
  const std::string checkpoints_dir_, tokenizer_source_dir_;
  const int keep_last_;
};

}  // namespace tramontane
