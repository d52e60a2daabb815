// What the rows of a group have in common at their beginnings, so that a microbatch computes it
// once. Torch-free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/learner/train_rows.h"

namespace tramontane {

struct ShareRule {
  bool routes = false;  // tokens are alike only if their routes are: those are replayed
  bool next = false;    // … only if the tokens behind them are: a multi-token head sees those
};

// Sets TrainRow::shared_tokens: for the rows of each group that have a response, how many of their
// first input tokens are alike. 0 where a group has one such row.
void ShareInputs(const ShareRule& rule, std::vector<TrainRow>& rows);

// How many of the first input tokens of members[nth] are computed with the member before it, if
// they stand side by side in a microbatch.
int64_t HeldTokens(std::span<const TrainRow> rows, const std::vector<int32_t>& members, size_t nth);

}  // namespace tramontane
