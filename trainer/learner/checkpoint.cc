#include "trainer/learner/checkpoint.h"

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
  return WriteCheckpoint(checkpoints_dir, state, keep_last, [&](const std::string& dir) {
    return Fill(dir, learner, tokenizer_source_dir);
  });
}

}  // namespace tramontane
