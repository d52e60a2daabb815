#include "services/trainer/stage_rows.h"

#include <algorithm>
#include <span>

#include "common/status.h"

namespace tramontane {
namespace {

int32_t LargestId(std::initializer_list<std::span<const int32_t>> parts) {
  int32_t largest = -1;
  for (const std::span<const int32_t> tokens : parts) {
    for (const int32_t token : tokens) largest = std::max(largest, token);
  }
  return largest;
}

absl::Status CheckLargest(int32_t largest, const std::string& path, int64_t vocab_size) {
  if (largest < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(path + ": holds token " + std::to_string(largest) +
                                    ", outside the model's vocabulary of " +
                                    std::to_string(vocab_size));
}

}  // namespace

absl::StatusOr<ModelConfig> ModelForRows(const SupervisedStage& stage) {
  ASSIGN_OR_RETURN(ModelConfig model, LoadModelConfig(stage.base_dir));
  if (model.eos_token_ids.empty()) {
    return absl::InvalidArgumentError(stage.base_dir +
                                      ": eos_token_id is not set, so completions would never end");
  }
  return model;
}

absl::Status CheckIds(const std::vector<SftExample>& rows, const std::string& path,
                      int64_t vocab_size) {
  int32_t largest = -1;
  for (const SftExample& row : rows)
    largest = std::max(largest, LargestId({row.prompt_tokens, row.completion_tokens}));
  return CheckLargest(largest, path, vocab_size);
}

absl::Status CheckIds(const std::vector<PreferencePair>& rows, const std::string& path,
                      int64_t vocab_size) {
  int32_t largest = -1;
  for (const PreferencePair& row : rows) {
    largest =
        std::max(largest, LargestId({row.prompt_tokens, row.chosen_tokens, row.rejected_tokens}));
  }
  return CheckLargest(largest, path, vocab_size);
}

}  // namespace tramontane
