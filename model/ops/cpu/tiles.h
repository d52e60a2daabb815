// Register tiles shared by packed and paged attention. R rows of queries, C vectors of columns;
// loops over R and C unroll completely, so the accumulators stay in registers.
#pragma once

#include "model/ops/cpu/simd.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

// s[r][c] = q[r] . kt[:, c]
template <typename T, int R, int C>
inline void ScoreTile(const T* q, int64_t q_stride, const T* kt, int64_t kt_stride, int64_t dim,
                      T* s, int64_t s_stride) {
  Vec<T> acc[R][C] = {};
  for (int64_t d = 0; d < dim; ++d) {
    Vec<T> k[C];
    for (int c = 0; c < C; ++c) k[c] = Load(kt + d * kt_stride + c * kWidth<T>);
    for (int r = 0; r < R; ++r) {
      const Vec<T> b = Set1(q[r * q_stride + d]);
      for (int c = 0; c < C; ++c) acc[r][c] += b * k[c];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) Store<T>(s + r * s_stride + c * kWidth<T>, acc[r][c]);
  }
}

// acc[r][c] += sum over j in [begin, end) of p[r][j] v[j][c]
template <typename T, int R, int C>
inline void AddValues(Vec<T> (&acc)[R][C], const T* p, int64_t p_stride, const T* v,
                      int64_t v_stride, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) {
    Vec<T> row[C];
    for (int c = 0; c < C; ++c) row[c] = Load(v + j * v_stride + c * kWidth<T>);
    for (int r = 0; r < R; ++r) {
      const Vec<T> b = Set1(p[r * p_stride + j]);
      for (int c = 0; c < C; ++c) acc[r][c] += b * row[c];
    }
  }
}

// dst[j][c] += sum over r of p[r][j] rows[r][c], for j in [begin, end)
template <typename T, int R, int C>
inline void AddOuter(const T* p, int64_t p_stride, const T* rows, int64_t rows_stride, T* dst,
                     int64_t dst_stride, int64_t begin, int64_t end) {
  Vec<T> row[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) row[r][c] = Load(rows + r * rows_stride + c * kWidth<T>);
  }
  for (int64_t j = begin; j < end; ++j) {
    for (int c = 0; c < C; ++c) {
      Vec<T> acc = Load(dst + j * dst_stride + c * kWidth<T>);
      for (int r = 0; r < R; ++r) acc += Set1(p[r * p_stride + j]) * row[r][c];
      Store<T>(dst + j * dst_stride + c * kWidth<T>, acc);
    }
  }
}

// Softmax of scale * s over columns [low, high) in place, unnormalised, zero elsewhere in
// [0, padded); `padded` is a multiple of the width. Returns the sum; *top is the largest s.
template <typename T>
inline T SoftmaxRow(T* s, int64_t low, int64_t high, int64_t padded, T scale, T* top) {
  const T kNone = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < low; ++j) s[j] = kNone;
  for (int64_t j = high; j < padded; ++j) s[j] = kNone;
  Vec<T> tops = Set1<T>(kNone);
  for (int64_t j = 0; j < padded; j += kWidth<T>) tops = VecMax<T>(tops, Load(s + j));
  const T m = MaxLane<T>(tops);
  Vec<T> sums{};
  for (int64_t j = 0; j < padded; j += kWidth<T>) {
    const Vec<T> e = Exp((Load(s + j) - m) * scale);
    Store<T>(s + j, e);
    sums += e;
  }
  *top = m;
  return Sum<T>(sums);
}

}  // namespace tramontane::kernels::TRAMONTANE_ISA
