// Monte-Carlo tree search over steps: the policy proposes, the scorer judges (arXiv 2501.11223;
// selection as in AlphaZero, values normalised over the tree as in MuZero). One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "generator/search/path_grower.h"
#include "generator/search/search.h"

namespace tramontane {

struct MctsNode {
  SearchPath path;
  MctsNode* parent = nullptr;
  int32_t depth = 0;
  int64_t visits = 0;  // 1 when made, and 1 for every node made or visited again below
  double value = 0;    // of a leaf its own; else the visit-weighted mean of its children's
  double prior = 1;
  std::vector<std::unique_ptr<MctsNode>> children;
};

class MctsTree {
 public:
  // The references outlive the tree.
  MctsTree(const SearchParams& params, PathGrower& grower);

  // Up to params.simulations; fewer when the budget is spent.
  absl::Status Run();
  // The path that visits or values lead to. Where it has not ended it is finished if the budget
  // allows; if not, the best finished one takes its place.
  absl::StatusOr<SearchResult> Finish();

  const MctsNode& root() const { return root_; }

 private:
  MctsNode& Select();
  double Bound(const MctsNode& parent, const MctsNode& child) const;
  absl::Status Expand(MctsNode& leaf);
  absl::StatusOr<std::vector<double>> Evaluate(const std::vector<SearchPath>& steps);
  void Visit(MctsNode& node);
  void Note(double value);
  const MctsNode* Followed(const MctsNode& node) const;

  const SearchParams& params_;
  PathGrower& grower_;
  MctsNode root_;
  double lowest_, highest_;  // of all values so far
};

}  // namespace tramontane
