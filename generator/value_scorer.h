// A critic that a run has trained, as the scorer `value` of searches. Torch-free for who includes
// it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "generator/search/search.h"

namespace tramontane {

class ValueModel;

class ValueScorer {
 public:
  // `folder`: the critic's. `model_dir`: the model whose paths it will judge. `threads`: of one
  // call of Score(). InvalidArgument: its vocabulary is another, or its context shorter, than the
  // model's; NotFound, DataLoss: not a critic's folder.
  static absl::StatusOr<std::unique_ptr<ValueScorer>> Load(const std::string& folder,
                                                           const std::string& model_dir,
                                                           int threads);
  ~ValueScorer();

  // V of the state that each path has come to behind `prompt`; of a path that an end token ended,
  // that before the token: a critic learns no later one. Any thread; calls take turns.
  absl::StatusOr<std::vector<double>> Score(const std::vector<int32_t>& prompt,
                                            const std::vector<const SearchPath*>& paths);

 private:
  ValueScorer(std::unique_ptr<ValueModel> model, std::set<int32_t> end_tokens, int threads);

  std::mutex mutex_;
  const std::unique_ptr<ValueModel> model_;  // used under mutex_
  const std::set<int32_t> end_tokens_;
  const int threads_;
};

}  // namespace tramontane
