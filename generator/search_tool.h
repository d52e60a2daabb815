// The "search" object of `tramontane generate` and `tramontane eval`: read, run, written.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "generator/search_run.h"

namespace tramontane {

// What searches borrow from the verifiers' room. Called from several threads at once.
struct SearchHooks {
  // The score of a response, or of its beginning, by the grader of that name.
  std::function<absl::StatusOr<double>(const std::string& grader, const std::string& prompt,
                                       const Rollout& rollout, const std::string& gold)>
      grade;
  std::function<std::optional<std::string>(const std::string& text)> answer;
  std::function<bool(const std::string&, const std::string&)> same;
};

struct SearchAsk {
  SearchParams params;
  std::string scorer = "mean_logprob";  // or the name of a grader
  std::vector<std::string> answers;     // gold, one a prompt; for graders
};

// SearchParams' keys, "scorer" and "answers". A grader needs one answer for each prompt.
absl::StatusOr<SearchAsk> SearchAskFromJson(const nlohmann::json& json, size_t prompts);

// Every prompt's search, scored as asked. `prompts` and `texts` are the same prompts.
absl::StatusOr<std::vector<SearchResult>> RunSearchAsk(
    const SearchAsk& ask, const LoadedModel& loaded,
    const std::vector<std::vector<int32_t>>& prompts, const std::vector<std::string>& texts,
    const SamplingParams& sampling, const SearchHooks& hooks, const EngineOptions& options);

// {"method", "score", "answer", "sampled_tokens", "out_of_budget", "candidates": [{"score",
//  "answer", "tokens", "ended", "text"}]}; scores are null where nothing was scored.
nlohmann::json SearchJson(const SearchParams& params, const SearchResult& result);

}  // namespace tramontane
