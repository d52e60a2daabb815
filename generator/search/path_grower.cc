#include "generator/search/path_grower.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "common/status.h"
#include "generator/search/votes.h"

namespace tramontane {
namespace {

int32_t Size(const SearchPath& path) { return static_cast<int32_t>(path.rollout.tokens.size()); }

}  // namespace

PathGrower::PathGrower(const SearchParams& params, int32_t max_tokens, const SearchTools& tools)
    : params_(params), tools_(tools), path_limit_(params.PathTokens(max_tokens)) {
  if (params.token_budget > 0 && params.budget_scope == "total") left_ = params.token_budget;
}

SearchPath PathGrower::Fork(const SearchPath& path) {
  SearchPath fork = path;
  fork.rollout.sample_index = next_stream_++;
  return fork;
}

absl::Status PathGrower::Grow(const std::vector<SearchPath*>& paths, bool to_end) {
  std::vector<SearchPath*> open = paths;
  std::erase_if(open, [](const SearchPath* path) { return path->ended; });
  while (!open.empty() && left_ > 0) RETURN_IF_ERROR(GrowOnce(open, to_end));
  return absl::OkStatus();
}

// One round of equal shares; leaves in `open` the paths that their share has cut short.
absl::Status PathGrower::GrowOnce(std::vector<SearchPath*>& open, bool to_end) {
  const auto asking = std::min<int64_t>(left_, static_cast<int64_t>(open.size()));
  const int64_t share = left_ / asking;
  std::vector<PathAsk> asks;
  for (int64_t i = 0; i < asking; ++i)
    asks.push_back({open[i],
                    static_cast<int32_t>(std::min<int64_t>(share, path_limit_ - Size(*open[i]))),
                    to_end});
  ASSIGN_OR_RETURN(std::vector<PathGrowth> grown, tools_.grow(asks));
  std::vector<SearchPath*> cut;
  for (int64_t i = 0; i < asking; ++i) {
    const int64_t drawn = int64_t{grown[i].draws} - open[i]->draws;
    sampled_ += drawn;
    left_ -= drawn;
    if (Append(*open[i], std::move(grown[i]))) cut.push_back(open[i]);
  }
  cut.insert(cut.end(), open.begin() + asking, open.end());
  open = std::move(cut);
  return absl::OkStatus();
}

// True when the path could go on within this step.
bool PathGrower::Append(SearchPath& path, PathGrowth growth) {
  Rollout& more = growth.rollout;
  more.sample_index = path.rollout.sample_index;
  more.generate_seconds += path.rollout.generate_seconds;
  path.rollout = std::move(more);
  path.draws = growth.draws;
  const bool full = Size(path) >= path_limit_;
  path.ended = growth.stop == PathStop::kEnded || full;
  if (growth.stop != PathStop::kEnded) path.rollout.finish_reason = FinishReason::kLength;
  return growth.stop == PathStop::kCut && !full;
}

absl::StatusOr<std::vector<double>> PathGrower::Score(const std::vector<SearchPath*>& paths) {
  if (paths.empty()) return std::vector<double>();
  ASSIGN_OR_RETURN(std::vector<double> scores, tools_.score({paths.begin(), paths.end()}));
  if (scores.size() != paths.size() ||
      !std::ranges::all_of(scores, [](double score) { return std::isfinite(score); }))
    return absl::DataLossError("search: the scorer must give one finite score a path");
  return scores;
}

absl::Status PathGrower::ScoreStep(const std::vector<SearchPath*>& paths) {
  std::vector<SearchPath*> grown;
  for (SearchPath* path : paths) {
    if (Size(*path) > 0) {
      grown.push_back(path);
    } else {
      path->score = -std::numeric_limits<double>::infinity();
    }
  }
  ASSIGN_OR_RETURN(const std::vector<double> scores, Score(grown));
  for (size_t i = 0; i < grown.size(); ++i) {
    grown[i]->step_scores.push_back(scores[i]);
    grown[i]->score = AggregateScores(grown[i]->step_scores, params_.aggregate);
  }
  return absl::OkStatus();
}

SearchResult PathGrower::Finish(SearchPath best, std::vector<SearchPath> candidates) const {
  SearchResult result;
  std::erase_if(candidates, [](const SearchPath& path) { return Size(path) == 0; });
  best.answer = tools_.answer(best.rollout.text);
  for (SearchPath& candidate : candidates) candidate.answer = tools_.answer(candidate.rollout.text);
  result.best = std::move(best);
  result.candidates = std::move(candidates);
  result.sampled_tokens = sampled_;
  result.out_of_budget = out_of_budget();
  return result;
}

std::vector<SearchPath*> PointersTo(std::vector<SearchPath>& paths) {
  std::vector<SearchPath*> pointers;
  for (SearchPath& path : paths) pointers.push_back(&path);
  return pointers;
}

}  // namespace tramontane
