#include "trainer/learner_trainable.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "common/status.h"

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

absl::Status LearnerTrainable::Check(const Group& group) const { return learner_.Check(group); }

WeightManifest LearnerTrainable::Snapshot(int64_t version, std::vector<char>& payload) const {
  return learner_.Snapshot(version, payload);
}

absl::StatusOr<int64_t> LearnerTrainable::SaveCheckpoint(const CheckpointState& state) {
  RETURN_IF_ERROR(tramontane::SaveCheckpoint(checkpoints_dir_, learner_, tokenizer_source_dir_,
                                             state, keep_last_));
  int64_t bytes = 0;
  std::error_code error;  // a file that cannot be looked at is left out of the count
  const std::string folder = checkpoints_dir_ + "/step_" + std::to_string(state.step);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file(error)) bytes += static_cast<int64_t>(entry.file_size(error));
  }
  return bytes;
}

}  // namespace tramontane
