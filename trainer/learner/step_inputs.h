// From a step's rows to what its statistics and its minibatches are made of. Torch-free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/learner/advantage.h"
#include "trainer/learner/train_rows.h"

namespace tramontane {

std::vector<int64_t> SampledTokens(std::span<const TrainRow> rows);
std::vector<int64_t> GroupsOf(std::span<const TrainRow> rows);

// Rewards as the verifier gave them, no values; minibatches of whole groups, group by group in turn
// (only with several).
AdvantageInput MakeAdvantageInput(std::span<const TrainRow> rows, int64_t minibatches);

// The kept rows of each minibatch, as flags; minibatches without any are left out.
std::vector<std::vector<uint8_t>> SplitKept(const AdvantageInput& input,
                                            const std::vector<uint8_t>& kept, int64_t minibatches);

}  // namespace tramontane
