// Search over responses: whole chains (majority, best of N, weighted), beams over steps, DVTS and
// Monte-Carlo tree search, each within a token budget. Torch-free; the model, the scorer and the
// notion of an answer are functions, so that serving, evaluation and data making share this code.
//
// Beams and DVTS follow huggingface/search-and-learn; MCTS the "Blueprint" (arXiv 2501.11223).
// Everything is deterministic: a path draws from its stream at its length, so that one path alone
// is plain sampling token for token, however often it is interrupted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

struct SearchParams {
  std::string method = "best_of_n";  // majority | best_of_n | weighted_best_of_n | parallel |
                                     // beam | dvts | mcts
  int32_t n = 4;                     // chains or beams
  int32_t expansion = 4;             // beam, dvts: children of a beam; mcts: of a leaf
  int32_t max_steps = 40;            // beam, dvts: the last one runs to the end
  std::string step_end = "\n\n";
  std::string aggregate = "last";      // last | min | prod, of a path's step scores
  int64_t token_budget = 0;            // 0: none
  std::string budget_scope = "total";  // total | path

  // mcts
  int32_t simulations = 64;
  double gamma = 0.96;
  double rollout_weight = 0;  // a in (1 − a)·value + a·mean score of finished rollouts
  int32_t rollouts = 1;
  bool prior = false;           // weigh exploration by the steps' probabilities (PUCT)
  std::string pick = "visits";  // visits | value: which child the answer follows

  // Tokens of one path, where a response may have `max_tokens`.
  int32_t PathTokens(int32_t max_tokens) const {
    const bool bounded = token_budget > 0 && budget_scope == "path";
    return bounded ? static_cast<int32_t>(std::min<int64_t>(token_budget, max_tokens)) : max_tokens;
  }
  // Paths that it may grow side by side.
  int64_t MostPaths() const {
    return method == "mcts" ? int64_t{expansion} * std::max(rollouts, 1) : n;
  }
};

// Unknown keys and values out of range are InvalidArgument and name the field: "search.n".
absl::StatusOr<SearchParams> SearchFromJson(const nlohmann::json& json);

// A response, or the beginning of one.
struct SearchPath {
  Rollout rollout;    // sample_index is the stream
  int32_t draws = 0;  // random numbers that it took so far
  std::vector<double> step_scores;
  double score = 0;    // of the step scores, or of the whole
  bool ended = false;  // by an end token, a stop string or its length: never expanded again
  std::optional<std::string> answer;
};

// One path to be grown by at most `max_tokens` sampled ones, up to the end of a step unless
// `to_end`.
struct PathAsk {
  const SearchPath* path = nullptr;
  int32_t max_tokens = 0;
  bool to_end = false;
};

enum class PathStop { kStep, kEnded, kCut };  // kCut: max_tokens

// The whole path: what it was, and what it has grown by.
struct PathGrowth {
  Rollout rollout;
  int32_t draws = 0;
  PathStop stop = PathStop::kCut;
};

struct SearchTools {
  // Grows all paths side by side. Draws from stream `sample_index`, going on where the path paused.
  std::function<absl::StatusOr<std::vector<PathGrowth>>(const std::vector<PathAsk>&)> grow;
  // What a verifier or value head thinks of the beginnings of responses; finite. Empty: majority.
  std::function<absl::StatusOr<std::vector<double>>(const std::vector<const SearchPath*>&)> score;
  std::function<std::optional<std::string>(const std::string& text)> answer;  // null: none
  std::function<bool(const std::string&, const std::string&)> same;  // answers that mean the same
};

struct SearchResult {
  SearchPath best;
  std::vector<SearchPath> candidates;  // what `best` was chosen from, in the order of their making
  int64_t sampled_tokens = 0;          // all of them, abandoned paths included
  bool out_of_budget = false;          // `best` is the best so far
};

// What the policy thinks of its own paths: the mean log-probability of their sampled tokens.
absl::StatusOr<std::vector<double>> MeanLogprobs(const std::vector<const SearchPath*>& paths);

// `max_tokens`: of one response. Errors are those of the tools, or DataLoss for a score that is not
// finite.
absl::StatusOr<SearchResult> Search(const SearchParams& params, int32_t max_tokens,
                                    const SearchTools& tools);

}  // namespace tramontane
