// What the rows of all supervised stages have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/dataset.h"
#include "model/model_config.h"
#include "services/trainer/supervised_stage.h"

namespace tramontane {

// Configuration of the model that the stage starts from. InvalidArgument: it has no end token, so
// completions would never end.
absl::StatusOr<ModelConfig> ModelForRows(const SupervisedStage& stage);

// InvalidArgument: the rows of file `path` hold a token that the vocabulary does not.
absl::Status CheckIds(const std::vector<SftExample>& rows, const std::string& path,
                      int64_t vocab_size);
absl::Status CheckIds(const std::vector<PreferencePair>& rows, const std::string& path,
                      int64_t vocab_size);

template <class T>
std::vector<T> Those(const std::vector<T>& all, const std::vector<size_t>& drawn) {
  std::vector<T> some;
  some.reserve(drawn.size());
  for (const size_t i : drawn) some.push_back(all[i]);
  return some;
}

}  // namespace tramontane
