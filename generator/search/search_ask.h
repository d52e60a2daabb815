// The "search" object of a request, wherever it comes from (command line, HTTP, gRPC), and what is
// said of the search beside its answer.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/scorers.h"
#include "generator/search/search.h"

namespace tramontane {

struct SearchAsk {
  SearchParams params;
  std::string scorer{kPolicyScorer};  // or kCriticScorer, or the name of a verifier
  std::vector<std::string> answers;   // gold, one a prompt, or none at all; for verifiers
  nlohmann::json scorer_params = nlohmann::json::object();  // passed to the verifier

  bool by_value() const { return scorer == kCriticScorer; }
  bool by_verifier() const { return scorer != kPolicyScorer && !by_value(); }
};

// SearchParams' keys, "scorer", "answers" and "scorer_params". InvalidArgument names the field.
absl::StatusOr<SearchAsk> SearchAskFromJson(const nlohmann::json& json, size_t prompts);

// What a search by `value` is told where no critic has been loaded. InvalidArgument.
absl::Status NoCritic();

// {"method", "score", "answer", "sampled_tokens", "out_of_budget", "candidates": [{"score",
//  "answer", "tokens", "ended", "text"}]}; scores are null where nothing was scored.
nlohmann::json SearchJson(const SearchParams& params, const SearchResult& result);

}  // namespace tramontane
