#include <algorithm>
#include <utility>

#include "common/status.h"
#include "generator/search/methods.h"

namespace tramontane {
namespace {

// The best first; equals keep their order.
void SortByScore(std::vector<SearchPath>& paths) {
  std::ranges::stable_sort(paths, std::greater<>(), &SearchPath::score);
}

// `count` paths from `parents` in turn. The first child of a parent goes on with its stream.
std::vector<SearchPath> Spread(const std::vector<SearchPath>& parents, int32_t count,
                               PathGrower& grower) {
  std::vector<SearchPath> children;
  for (int32_t i = 0; i < count; ++i) {
    const SearchPath& parent = parents[i % parents.size()];
    children.push_back(static_cast<size_t>(i) < parents.size() ? parent : grower.Fork(parent));
  }
  return children;
}

SearchResult Best(std::vector<SearchPath> finished, std::vector<SearchPath> unfinished,
                  PathGrower& grower) {
  std::vector<SearchPath> candidates =
      finished.empty() ? std::move(unfinished) : std::move(finished);
  SearchPath best = *std::ranges::max_element(candidates, {}, &SearchPath::score);
  return grower.Finish(std::move(best), std::move(candidates));
}

// Moves the paths that have ended out of `paths`.
void TakeEnded(std::vector<SearchPath>& paths, std::vector<SearchPath>& ended) {
  const auto rest = std::stable_partition(paths.begin(), paths.end(),
                                          [](const SearchPath& path) { return !path.ended; });
  ended.insert(ended.end(), std::make_move_iterator(rest), std::make_move_iterator(paths.end()));
  paths.erase(rest, paths.end());
}

}  // namespace

absl::StatusOr<SearchResult> SearchBeam(const SearchParams& params, PathGrower& grower) {
  std::vector<SearchPath> beams, finished;
  for (int32_t i = 0; i < params.n; ++i) beams.push_back(grower.Root());
  const size_t kept = static_cast<size_t>(std::max(params.n / params.expansion, 1));
  for (int32_t step = 0; step < params.max_steps; ++step) {
    RETURN_IF_ERROR(grower.Grow(PointersTo(beams), step + 1 == params.max_steps));
    RETURN_IF_ERROR(grower.ScoreStep(PointersTo(beams)));
    TakeEnded(beams, finished);
    SortByScore(beams);
    if (beams.empty() || grower.out_of_budget() || finished.size() >= static_cast<size_t>(params.n))
      break;
    if (beams.size() > kept) beams.resize(kept);
    beams = Spread(beams, params.n, grower);
  }
  return Best(std::move(finished), std::move(beams), grower);
}

absl::StatusOr<SearchResult> SearchDvts(const SearchParams& params, PathGrower& grower) {
  std::vector<SearchPath> trees, finished;
  const int32_t count = std::max(params.n / params.expansion, 1);
  for (int32_t i = 0; i < count; ++i) trees.push_back(grower.Root());
  for (int32_t step = 0; step < params.max_steps && !trees.empty(); ++step) {
    std::vector<SearchPath> children;  // of tree t: [t · M, (t + 1) · M)
    for (const SearchPath& tree : trees) {
      std::vector<SearchPath> own = Spread({tree}, params.expansion, grower);
      std::ranges::move(own, std::back_inserter(children));
    }
    RETURN_IF_ERROR(grower.Grow(PointersTo(children), step + 1 == params.max_steps));
    RETURN_IF_ERROR(grower.ScoreStep(PointersTo(children)));
    for (size_t t = 0; t < trees.size(); ++t) {
      const auto first = children.begin() + static_cast<ptrdiff_t>(t) * params.expansion;
      trees[t] = *std::ranges::max_element(first, first + params.expansion, {}, &SearchPath::score);
    }
    TakeEnded(trees, finished);
    if (grower.out_of_budget()) break;
  }
  return Best(std::move(finished), std::move(trees), grower);
}

}  // namespace tramontane
