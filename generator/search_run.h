// Searches over a model's responses: the engine grows the paths, a judge scores them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/batch_run.h"
#include "generator/engine.h"
#include "generator/search/engine_paths.h"
#include "generator/search/search.h"

namespace tramontane {

// All members are called from several threads at once.
struct SearchJudge {
  // Scores of paths of prompt `prompt`; empty: the mean log-probability of their tokens.
  std::function<absl::StatusOr<std::vector<double>>(size_t prompt,
                                                    const std::vector<const SearchPath*>& paths)>
      score;
  std::function<std::optional<std::string>(const std::string& text)> answer;
  std::function<bool(const std::string&, const std::string&)> same;
};

// The work on one prompt, whose paths grow in `paths`; called from several threads at once.
using PromptWork = std::function<absl::Status(size_t prompt, EnginePaths& paths)>;

// Every prompt's work, several at a time in an engine of their own; at most `search`'s paths grow
// side by side for each. Prompt p draws with seed sampling.seed + p. An error names its prompt.
absl::Status ForEachPrompt(const LoadedModel& loaded,
                           const std::vector<std::vector<int32_t>>& prompts,
                           const SamplingParams& sampling, const SearchParams& search,
                           const EngineOptions& options, const PromptWork& work);

// One search for each prompt, several at a time; what is found does not depend on how many.
// Prompt p draws with seed sampling.seed + p.
absl::StatusOr<std::vector<SearchResult>> RunSearches(
    const LoadedModel& loaded, const std::vector<std::vector<int32_t>>& prompts,
    const SamplingParams& sampling, const SearchParams& search, const SearchJudge& judge,
    const EngineOptions& options);

}  // namespace tramontane
