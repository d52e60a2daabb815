#include "trainer/learner/step_inputs.h"

#include <algorithm>
#include <utility>

namespace tramontane {

std::vector<int64_t> SampledTokens(std::span<const TrainRow> rows) {
  std::vector<int64_t> lengths;
  for (const TrainRow& row : rows) lengths.push_back(row.sampled_tokens());
  return lengths;
}

std::vector<int64_t> GroupsOf(std::span<const TrainRow> rows) {
  std::vector<int64_t> groups;
  for (const TrainRow& row : rows) groups.push_back(row.group);
  return groups;
}

AdvantageInput MakeAdvantageInput(std::span<const TrainRow> rows, int64_t minibatches) {
  AdvantageInput input;
  input.group = GroupsOf(rows);
  input.tokens = SampledTokens(rows);
  for (const TrainRow& row : rows) {
    input.reward.push_back(row.reward);
    input.truncated.push_back(row.truncated);
    input.masked.push_back(row.masked);
    input.correct.push_back(row.correct);
    if (minibatches > 1) input.minibatch.push_back(row.group % minibatches);
  }
  return input;
}

std::vector<std::vector<uint8_t>> SplitKept(const AdvantageInput& input,
                                            const std::vector<uint8_t>& kept, int64_t minibatches) {
  if (minibatches <= 1) return {kept};
  std::vector<std::vector<uint8_t>> parts;
  for (int64_t m = 0; m < minibatches; ++m) {
    std::vector<uint8_t> part(kept.size(), 0);
    for (size_t i = 0; i < kept.size(); ++i) part[i] = kept[i] && input.minibatch[i] == m;
    if (std::find(part.begin(), part.end(), uint8_t{1}) != part.end())
      parts.push_back(std::move(part));
  }
  if (parts.empty())
    parts.push_back(kept);  // so that the step says that it has nothing to learn from
  return parts;
}

}  // namespace tramontane
