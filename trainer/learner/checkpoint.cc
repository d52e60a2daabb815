#include "trainer/learner/checkpoint.h"

#include <filesystem>

#include "common/files.h"
#include "common/status.h"
#include "model/checkpoint.h"
#include "trainer/learner/checkpoint_dir.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

absl::Status Fill(const std::string& staging_dir, const Learner& learner, const std::string& tokenizer_source_dir) {
  const std::string hf_dir = staging_dir + "/hf";
  RETURN_IF_ERROR(MakeDirs(hf_dir));
  RETURN_IF_ERROR(SaveTransformer(learner.model(), tokenizer_source_dir, hf_dir));
  return learner.SaveState(staging_dir);
}

}  // namespace

absl::Status SaveCheckpoint(const std::string& checkpoints_dir, const Learner& learner,
                            const std::string& tokenizer_source_dir, const CheckpointState& state, int keep_last) {
  ASSIGN_OR_RETURN(const std::string staging_dir, BeginCheckpoint(checkpoints_dir, state.step));
  absl::Status status = Fill(staging_dir, learner, tokenizer_source_dir);
  if (status.ok()) status = CommitCheckpoint(staging_dir, checkpoints_dir, state);
  if (!status.ok()) {
    std::error_code ignored;  // the save's own error is the one to report
    std::filesystem::remove_all(staging_dir, ignored);
    return Annotate(status, "checkpoint of step " + std::to_string(state.step));
  }
  return PruneCheckpoints(checkpoints_dir, keep_last);
}

}  // namespace tramontane
