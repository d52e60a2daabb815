// Every aggregation is a fixed weight per token: loss = Σ_t weight_t · ℓ_t over the sampled tokens
// of the whole step. The weights come from lengths alone, once per step and in float64, so that
// neither microbatching nor packing nor order can change the loss.
#pragma once

#include <cstdint>
#include <vector>

#include "common/config.h"

namespace tramontane {

// Weight of each sampled token of sequence i, [sequences].
//   token_mean           1 / tokens in scope
//   seq_mean_token_mean  1 / (sequences in scope · tokens of the sequence)
//   seq_mean_token_sum   1 / sequences in scope
//   token_sum_const      1 / constant, or 1 / (constant · sequences in scope):
//   conventions.constant_per
// Scope `group` takes the mean within each group, then the mean over groups. One optimiser step is
// one minibatch, so `minibatch` and `global` are the same. Sequences with kept = 0 do not exist
// here; conventions.empty_sequences says whether those without sampled tokens count as sequences;
// conventions.denominator_epsilon is added to every denominator but the constant.
std::vector<double> TokenWeights(const std::vector<int64_t>& group,
                                 const std::vector<int64_t>& tokens,
                                 const std::vector<uint8_t>& kept,
                                 const AggregationConfig& aggregation,
                                 const ConventionsConfig& conventions);

// Weights of the positive-example NLL term: the mean over sampled tokens of kept sequences that are
// positive (right answers, not whatever earned something for its form), over the whole step.
std::vector<double> PositiveTokenWeights(const std::vector<uint8_t>& positive,
                                         const std::vector<int64_t>& tokens,
                                         const std::vector<uint8_t>& kept);

}  // namespace tramontane
