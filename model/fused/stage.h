// What the stages of a fused pass have in common: how they are shared out, and the call of a
// product.
#pragma once

#include <algorithm>
#include <cstdint>

#include "model/fused/packed_weights.h"
#include "model/fused/thread_team.h"
#include "model/ops/cpu/gemm.h"

namespace tramontane {

inline int64_t WholeVectors(int64_t n) { return (n + 15) / 16 * 16; }
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Into how many pieces work, in multiply-adds, is cut; 1: not shared. Sharing a stage out costs a
// few tenths of a microsecond, which less work is not worth.
inline int64_t Pieces(int64_t work, int members) {
  constexpr int64_t kWorthSharing = 1 << 15, kLeastChunk = 1 << 14, kChunksPerMember = 4;
  if (members == 1 || work < kWorthSharing) return 1;
  return std::clamp<int64_t>(work / kLeastChunk, 1, kChunksPerMember * members);
}

// f(begin, end, member) over [0, count), in about as many pieces as the work is worth.
template <class F>
void Share(ThreadTeam& team, int64_t count, int64_t work, F&& f) {
  const int64_t pieces = std::min(count, Pieces(work, team.members()));
  if (pieces <= 1) return f(int64_t{0}, count, 0);
  team.For(static_cast<int>(pieces), [&](int piece, int member) {
    f(count * piece / pieces, count * (piece + 1) / pieces, member);
  });
}

// y = x W^T over all `panels` of the matrix.
inline kernels::GemmCall CallOf(const PackedMatrix& matrix, kernels::Epilogue epilogue,
                                int64_t rows, const float* x, int64_t x_stride, float* y,
                                int64_t y_stride, int64_t panels) {
  return {.type = matrix.type,
          .epilogue = epilogue,
          .rows = rows,
          .inputs = matrix.inputs,
          .outputs = matrix.outputs,
          .x = x,
          .x_stride = x_stride,
          .weights = matrix.weights,
          .scales = matrix.scales,
          .bias = matrix.bias,
          .y = y,
          .y_stride = y_stride,
          .first_panel = 0,
          .end_panel = panels};
}

}  // namespace tramontane
