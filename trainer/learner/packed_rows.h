// Rows side by side in one forward pass, as tensors.
//
// Shapes: T input tokens, R response tokens (rows of a head), S sequences. A row's numbers of
// sampled tokens lie back to back in `SampledValues`, injected tokens have none.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/learner/train_rows.h"

namespace tramontane {

struct PackedRows {
  at::Tensor tokens_T, positions_T;  // int64
  at::Tensor hidden_rows_R;          // int64: the position that predicts each response token
  at::Tensor targets_R, sequence_R;  // int64
  std::vector<int64_t> offsets;      // S + 1, in input tokens

  int64_t responses() const { return targets_R.numel(); }
};

// `members` index `rows`; each must have a response.
PackedRows PackRows(std::span<const TrainRow> rows, const std::vector<int32_t>& members);

// What was noted of the members' inputs. uint8 [T, expert layers, experts per token]
at::Tensor PackRoutes(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                      int64_t expert_layers, int64_t experts_per_token);

// True where the policy did not sample; undefined when it sampled every token. bool [R]
at::Tensor InjectedMask(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                        int64_t responses);

// One number a row, at each of its response tokens. float64 [R]
at::Tensor SpreadRows(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                      const std::vector<double>& values);

// One number for every sampled token of a step, row after row.
struct SampledValues {
  std::vector<double> values;
  std::vector<size_t> first;  // rows + 1: where each row's begin

  // Zeros.
  static SampledValues Like(std::span<const TrainRow> rows);
};

// The members' numbers at their tokens, 0 where injected. float64 [R]
at::Tensor ScatterSampled(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                          const SampledValues& sampled);
// The opposite: takes the sampled tokens' numbers of `values_R` for the members. Threads may do so
// at once for distinct members.
void GatherSampled(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                   const at::Tensor& values_R, SampledValues& sampled);

}  // namespace tramontane
