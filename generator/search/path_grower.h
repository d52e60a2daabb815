// Grows and scores the paths of one search: hands out streams, debits every sampled token, stops
// cleanly when the budget is spent. One thread.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "generator/search/search.h"

namespace tramontane {

class PathGrower {
 public:
  // The references outlive the grower.
  PathGrower(const SearchParams& params, int32_t max_tokens, const SearchTools& tools);

  SearchPath Root() { return Fork({}); }
  // A copy that draws from a stream of its own from here on.
  SearchPath Fork(const SearchPath& path);

  // Grows every path that has not ended by one step, or to its end. What the budget no longer
  // covers stays as it is; shares are equal, and what short paths leave goes to the others.
  absl::Status Grow(const std::vector<SearchPath*>& paths, bool to_end);
  // Appends to each path's step scores, and sets its score from them. A path that the budget gave
  // no token comes behind all others, and is no candidate in the end.
  absl::Status ScoreStep(const std::vector<SearchPath*>& paths);
  // Scores of the paths as they are; nothing is kept.
  absl::StatusOr<std::vector<double>> Score(const std::vector<SearchPath*>& paths);

  bool out_of_budget() const { return left_ == 0; }
  int64_t sampled_tokens() const { return sampled_; }
  // Fills in answers and totals.
  SearchResult Finish(SearchPath best, std::vector<SearchPath> candidates) const;

 private:
  absl::Status GrowOnce(std::vector<SearchPath*>& open, bool to_end);
  bool Append(SearchPath& path, PathGrowth growth);

  const SearchParams& params_;
  const SearchTools& tools_;
  const int32_t path_limit_;  // tokens of one path
  int64_t left_ = std::numeric_limits<int64_t>::max();
  int64_t sampled_ = 0;
  int32_t next_stream_ = 0;
};

std::vector<SearchPath*> PointersTo(std::vector<SearchPath>& paths);

}  // namespace tramontane
