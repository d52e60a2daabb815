// Searches of a serving generator: beside its other requests, scored by the run's verifiers, by a
// built-in grader or by a critic.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "generator/search/search_pool.h"
#include "generator/search_tool.h"
#include "services/verifier/client.h"

namespace tramontane {

class SearchService {
 public:
  struct Options {
    SearchPoolOptions pool;
    int32_t most_paths = 1024;  // of one search side by side: what the engine's queue can hold
  };

  // `verifiers` are those of `sections`, null where there are none. All collaborators outlive it.
  SearchService(const Options& options, EngineHooks engine, SearchHooks graders,
                VerifierPool* verifiers, std::map<std::string, VerifierSection> sections,
                MetricsRegistry& metrics);

  SearchDesk Desk();  // this outlives it

 private:
  absl::Status Start(SearchOrder order);
  absl::StatusOr<SearchTools> ToolsFor(const SearchOrder& order);
  SearchTools VerifierTools(const SearchOrder& order) const;
  absl::StatusOr<SearchTools> GraderTools(const SearchOrder& order) const;
  absl::StatusOr<SearchTools> ValueTools(const SearchOrder& order);

  const Options options_;
  const SearchHooks graders_;
  VerifierPool* const verifiers_;
  const std::map<std::string, VerifierSection> sections_;
  Histogram value_seconds_;
  Counter value_tokens_;
  SearchPool pool_;  // last: its threads use the rest
};

}  // namespace tramontane
