#include "trainer/learner_trainable.h"

#include <utility>

namespace tramontane {

LearnerTrainable::LearnerTrainable(Learner& learner, std::string checkpoints_dir,
                                   std::string tokenizer_source_dir, int keep_last)
    : learner_(learner),
      checkpoints_dir_(std::move(checkpoints_dir)),
      tokenizer_source_dir_(std::move(tokenizer_source_dir)),
      keep_last_(keep_last) {}

absl::StatusOr<StepReport> LearnerTrainable::Step(const std::vector<Group>& groups, int64_t step) {
  return learner_.Step(groups, step);
}

WeightManifest LearnerTrainable::Snapshot(int64_t version, std::vector<char>& payload) const {
  return learner_.Snapshot(version, payload);
}

absl::Status LearnerTrainable::SaveCheckpoint(const CheckpointState& state) {
  return tramontane::SaveCheckpoint(checkpoints_dir_, learner_, tokenizer_source_dir_, state, keep_last_);
}

}  // namespace tramontane
