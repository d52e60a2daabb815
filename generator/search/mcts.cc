#include "generator/search/mcts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "common/status.h"
#include "generator/search/methods.h"

namespace tramontane {
namespace {

constexpr double kBase = 19652, kInit = 1.25;

// Equal steps are one child; a path that did not grow is none.
void DropRepeated(std::vector<SearchPath>& steps, size_t parent_tokens) {
  std::vector<SearchPath> kept;
  for (SearchPath& step : steps) {
    const auto equal = [&step](const SearchPath& other) {
      return other.rollout.tokens == step.rollout.tokens;
    };
    if (step.rollout.tokens.size() > parent_tokens && std::ranges::none_of(kept, equal))
      kept.push_back(std::move(step));
  }
  steps = std::move(kept);
}

// Probabilities of the steps, normalised over the siblings.
std::vector<double> Priors(const std::vector<SearchPath>& steps, size_t parent_tokens) {
  std::vector<double> priors;
  for (const SearchPath& step : steps) {
    const std::vector<float>& logprobs = step.rollout.logprobs;
    priors.push_back(std::accumulate(logprobs.begin() + static_cast<ptrdiff_t>(parent_tokens),
                                     logprobs.end(), 0.0));
  }
  const double top = *std::ranges::max_element(priors);
  double sum = 0;
  for (double& prior : priors) sum += prior = std::exp(prior - top);
  for (double& prior : priors) prior /= sum;
  return priors;
}

void CollectEnded(const MctsNode& node, std::vector<SearchPath>& ended) {
  if (node.path.ended) ended.push_back(node.path);
  for (const auto& child : node.children) CollectEnded(*child, ended);
}

}  // namespace

MctsTree::MctsTree(const SearchParams& params, PathGrower& grower)
    : params_(params),
      grower_(grower),
      lowest_(std::numeric_limits<double>::infinity()),
      highest_(-std::numeric_limits<double>::infinity()) {
  root_.path = grower.Root();
}

absl::Status MctsTree::Run() {
  for (int32_t i = 0; i < params_.simulations; ++i) {
    MctsNode& leaf = Select();
    if (leaf.path.ended) {
      Visit(leaf);
      continue;
    }
    if (grower_.out_of_budget()) return absl::OkStatus();
    RETURN_IF_ERROR(Expand(leaf));
  }
  return absl::OkStatus();
}

MctsNode& MctsTree::Select() {
  MctsNode* node = &root_;
  while (!node->children.empty()) {
    MctsNode* best = nullptr;
    double best_bound = 0;
    for (const auto& child : node->children) {
      const double bound = Bound(*node, *child);
      if (best != nullptr && bound <= best_bound) continue;
      best = child.get();
      best_bound = bound;
    }
    node = best;
  }
  return *node;
}

double MctsTree::Bound(const MctsNode& parent, const MctsNode& child) const {
  const double spread = highest_ - lowest_;
  const double exploit = spread > 0 ? (child.value - lowest_) / spread : 0;
  const auto n = static_cast<double>(parent.visits);
  const double explore = std::sqrt(std::max(n - 1, 0.0)) / (1 + static_cast<double>(child.visits));
  return exploit + child.prior * explore * (kInit + std::log((n + kBase) / kBase));
}

absl::Status MctsTree::Expand(MctsNode& leaf) {
  std::vector<SearchPath> steps;
  for (int32_t i = 0; i < params_.expansion; ++i) steps.push_back(grower_.Fork(leaf.path));
  RETURN_IF_ERROR(grower_.Grow(PointersTo(steps), leaf.depth + 1 >= params_.max_steps));
  DropRepeated(steps, leaf.path.rollout.tokens.size());
  if (steps.empty()) return absl::OkStatus();  // the budget gave none of them a token
  RETURN_IF_ERROR(grower_.ScoreStep(PointersTo(steps)));
  ASSIGN_OR_RETURN(const std::vector<double> values, Evaluate(steps));
  const std::vector<double> priors = Priors(steps, leaf.path.rollout.logprobs.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    auto child = std::make_unique<MctsNode>();
    child->path = std::move(steps[i]);
    child->parent = &leaf;
    child->depth = leaf.depth + 1;
    child->prior = params_.prior ? priors[i] : 1;
    child->value = values[i];
    Note(values[i]);
    leaf.children.push_back(std::move(child));
    Visit(*leaf.children.back());
  }
  return absl::OkStatus();
}

// (1 − a) · value + a · mean score of responses finished from here.
absl::StatusOr<std::vector<double>> MctsTree::Evaluate(const std::vector<SearchPath>& steps) {
  std::vector<double> values;
  for (const SearchPath& step : steps) values.push_back(step.score);
  if (params_.rollout_weight == 0) return values;
  std::vector<SearchPath> ends;
  std::vector<size_t> of;
  for (size_t i = 0; i < steps.size(); ++i) {
    for (int32_t r = 0; r < params_.rollouts && !steps[i].ended; ++r) {
      ends.push_back(grower_.Fork(steps[i]));
      of.push_back(i);
    }
  }
  RETURN_IF_ERROR(grower_.Grow(PointersTo(ends), /*to_end=*/true));
  ASSIGN_OR_RETURN(const std::vector<double> scores, grower_.Score(PointersTo(ends)));
  std::vector<double> sums(steps.size(), 0);
  std::vector<int32_t> counts(steps.size(), 0);
  for (size_t i = 0; i < ends.size(); ++i) {
    if (!ends[i].ended) continue;  // the budget cut it short
    sums[of[i]] += scores[i];
    ++counts[of[i]];
  }
  const double a = params_.rollout_weight;
  for (size_t i = 0; i < steps.size(); ++i)
    if (counts[i] > 0) values[i] = (1 - a) * values[i] + a * sums[i] / counts[i];
  return values;
}

// One visit of `node` and of all above it.
void MctsTree::Visit(MctsNode& node) {
  ++node.visits;
  for (MctsNode* up = node.parent; up != nullptr; up = up->parent) {
    ++up->visits;
    double sum = 0, visits = 0;
    for (const auto& child : up->children) {
      sum += static_cast<double>(child->visits) * params_.gamma * child->value;
      visits += static_cast<double>(child->visits);
    }
    up->value = sum / visits;
    Note(up->value);
  }
}

void MctsTree::Note(double value) {
  lowest_ = std::min(lowest_, value);
  highest_ = std::max(highest_, value);
}

const MctsNode* MctsTree::Followed(const MctsNode& node) const {
  const auto rank = [this](const auto& child) {
    const auto visits = static_cast<double>(child->visits);
    return params_.pick == "visits" ? std::pair(visits, child->value)
                                    : std::pair(child->value, visits);
  };
  return std::ranges::max_element(node.children, {}, rank)->get();
}

absl::StatusOr<SearchResult> MctsTree::Finish() {
  const MctsNode* node = &root_;
  while (!node->children.empty()) node = Followed(*node);
  SearchPath best = node->path;
  std::vector<SearchPath> ended;
  CollectEnded(root_, ended);
  if (!best.ended && !grower_.out_of_budget()) {
    RETURN_IF_ERROR(grower_.Grow({&best}, /*to_end=*/true));
    RETURN_IF_ERROR(grower_.ScoreStep({&best}));
    if (best.ended) ended.push_back(best);
  }
  if (!best.ended && !ended.empty())
    best = *std::ranges::max_element(ended, {}, &SearchPath::score);
  if (ended.empty()) ended.push_back(best);
  return grower_.Finish(std::move(best), std::move(ended));
}

absl::StatusOr<SearchResult> SearchMcts(const SearchParams& params, PathGrower& grower) {
  MctsTree tree(params, grower);
  RETURN_IF_ERROR(tree.Run());
  return tree.Finish();
}

}  // namespace tramontane
