#include "trainer/learner/shared_inputs.h"

#include <algorithm>
#include <unordered_map>

namespace tramontane {
namespace {

// How many of the first tokens of both, at most `most`, are alike.
int64_t Alike(const TrainRow& a, const TrainRow& b, int64_t most) {
  int64_t t = 0;
  while (t < most && a.TokenAt(t) == b.TokenAt(t)) ++t;
  return t;
}

// … and go through the same experts.
int64_t RoutedAlike(const TrainRow& a, const TrainRow& b, int64_t most) {
  const size_t per_token = a.routes.size() / static_cast<size_t>(a.input_tokens());
  if (per_token == 0) return most;
  const std::span routes = a.routes.first(static_cast<size_t>(most) * per_token);
  const auto differs = std::ranges::mismatch(routes, b.routes).in1;
  return (differs - routes.begin()) / static_cast<int64_t>(per_token);
}

}  // namespace

void ShareInputs(const ShareRule& rule, std::vector<TrainRow>& rows) {
  struct Common {
    const TrainRow* first;
    int64_t rows = 0, tokens = 0;
  };
  std::unordered_map<int64_t, Common> groups;
  for (TrainRow& row : rows) {
    row.shared_tokens = 0;
    if (row.response.empty()) continue;
    Common& common =
        groups.try_emplace(row.group, Common{&row, 0, row.input_tokens()}).first->second;
    ++common.rows;
    const int64_t most = std::min(common.tokens, row.input_tokens());
    common.tokens = Alike(*common.first, row, most);
    if (rule.routes) common.tokens = RoutedAlike(*common.first, row, common.tokens);
  }
  for (TrainRow& row : rows) {
    const auto found = groups.find(row.group);
    if (row.response.empty() || found->second.rows < 2) continue;
    row.shared_tokens = std::max<int64_t>(found->second.tokens - (rule.next ? 1 : 0), 0);
  }
}

int64_t HeldTokens(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                   size_t nth) {
  if (nth == 0) return 0;
  const TrainRow &row = rows[static_cast<size_t>(members[nth])],
                 &before = rows[static_cast<size_t>(members[nth - 1])];
  return row.group == before.group ? row.shared_tokens : 0;
}

}  // namespace tramontane
