#include <algorithm>

#include "common/status.h"
#include "generator/search/methods.h"
#include "generator/search/votes.h"

namespace tramontane {
namespace {

// Whole responses; step by step only where every step's score counts, which samples the same.
absl::Status GrowChains(const SearchParams& params, PathGrower& grower,
                        const std::vector<SearchPath*>& chains) {
  if (params.method == "majority") return grower.Grow(chains, /*to_end=*/true);
  std::vector<SearchPath*> open = chains;
  for (int32_t step = 0; !open.empty() && !grower.out_of_budget(); ++step) {
    const bool to_end = params.aggregate == "last" || step + 1 >= params.max_steps;
    RETURN_IF_ERROR(grower.Grow(open, to_end));
    RETURN_IF_ERROR(grower.ScoreStep(open));
    std::erase_if(open, [](const SearchPath* path) { return path->ended; });
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SearchResult> SearchChains(const SearchParams& params, const SearchTools& tools,
                                          PathGrower& grower) {
  std::vector<SearchPath> chains;
  for (int32_t i = 0; i < params.n; ++i) chains.push_back(grower.Root());
  RETURN_IF_ERROR(GrowChains(params, grower, PointersTo(chains)));
  Answers answers;
  std::vector<double> scores;
  for (const SearchPath& chain : chains) {
    // A chain that the budget cut has not answered yet, whatever it says so far.
    answers.push_back(chain.ended ? tools.answer(chain.rollout.text) : std::nullopt);
    scores.push_back(chain.score);
  }
  size_t best = 0;
  if (params.method == "majority") {
    best = MajorityVote(answers, tools.same);
  } else if (params.method == "weighted_best_of_n") {
    best = WeightedVote(answers, scores, tools.same);
  } else {
    best = static_cast<size_t>(std::ranges::max_element(scores) - scores.begin());
  }
  SearchPath chosen = chains[best];
  return grower.Finish(std::move(chosen), std::move(chains));
}

}  // namespace tramontane
