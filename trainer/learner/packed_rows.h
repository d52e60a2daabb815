// Rows side by side in one forward pass, as tensors.
//
// Shapes: T input tokens (those that rows share counted once), R response tokens (rows of a head),
// S sequences. A row's numbers of sampled tokens lie back to back in `SampledValues`, injected
// tokens have none.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/learner/train_rows.h"

namespace tramontane {

// Where one row's inputs lie among the T.
struct RowPlace {
  int64_t shared = 0;  // so many of the first may be other rows', too
  int64_t shared_at = 0, own_at = 0;

  int64_t At(int64_t position) const {
    return position < shared ? shared_at + position : own_at + position - shared;
  }
};

// Rows of a group that stand side by side hold their shared inputs once: one segment of them, then
// one for what is each row's own (PackedAttention's `continues`).
struct PackedRows {
  at::Tensor tokens_T, positions_T;  // int64
  at::Tensor hidden_rows_R;          // int64: the input that predicts each response token
  at::Tensor targets_R, sequence_R;  // int64
  std::vector<int64_t> offsets, continues;  // of segments: one more than segments, and one each
  std::vector<RowPlace> places;             // S

  int64_t responses() const { return targets_R.numel(); }
  int64_t inputs() const { return offsets.back(); }
};

// `members` index `rows`; each must have a response.
PackedRows PackRows(std::span<const TrainRow> rows, const std::vector<int32_t>& members);

// What was noted of the members' inputs. uint8 [T, expert layers, experts per token]
at::Tensor PackRoutes(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                      const PackedRows& packed, int64_t expert_layers, int64_t experts_per_token);

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
