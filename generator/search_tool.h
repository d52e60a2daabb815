// Searches of `tramontane generate`: scored by graders of the verifiers' room.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "generator/search/search_ask.h"
#include "generator/search_run.h"

namespace tramontane {

// What searches borrow from the verifiers' room. Called from several threads at once.
struct SearchHooks {
  // The score of a response, or of its beginning, by the grader of that name.
  std::function<absl::StatusOr<double>(const std::string& grader, const std::string& prompt,
                                       const Rollout& rollout, const std::string& gold)>
      grade;
  // Whether that grader is known and can judge by this gold answer: InvalidArgument, NotFound.
  std::function<absl::Status(const std::string& grader, const std::string& gold)> check;
  std::function<std::optional<std::string>(const std::string& text)> answer;
  std::function<bool(const std::string&, const std::string&)> same;
  // What a critic thinks of paths behind `prompt`; empty: none is loaded.
  std::function<absl::StatusOr<std::vector<double>>(const std::vector<int32_t>& prompt,
                                                    const std::vector<const SearchPath*>& paths)>
      value = {};
};

// SearchHooks::value by the critic in `folder`, which judges paths of the model in `model_dir`; no
// folder, no hook. Errors as ValueScorer::Load().
absl::Status AddValueHook(const std::string& folder, const std::string& model_dir, int threads,
                          SearchHooks& hooks);

// The judge's scores are the critic's. `hooks` and `prompts` outlive it. InvalidArgument: no critic
// is loaded.
absl::Status JudgeByValue(const SearchHooks& hooks,
                          const std::vector<std::vector<int32_t>>& prompts, SearchJudge& judge);

// Every prompt's search, scored as asked. `prompts` and `texts` are the same prompts.
absl::StatusOr<std::vector<SearchResult>> RunSearchAsk(
    const SearchAsk& ask, const LoadedModel& loaded,
    const std::vector<std::vector<int32_t>>& prompts, const std::vector<std::string>& texts,
    const SamplingParams& sampling, const SearchHooks& hooks, const EngineOptions& options);

}  // namespace tramontane
