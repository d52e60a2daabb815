// RMS norm, and the per-head norm with rotary embedding.
#include "model/ops/cpu/isa.h"
#include "model/ops/cpu/simd.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

namespace {

template <typename T>
inline T InverseRms(int64_t dim, const T* x, double eps) {
  Vec<T> sum{};
  ForChunks<T>(dim, [&](int64_t c, auto lanes) {
    const Vec<T> v = Load(x + c, lanes);
    sum += v * v;
  });
  return T(1) / std::sqrt(Sum<T>(sum) / static_cast<T>(dim) + static_cast<T>(eps));
}

template <typename T>
inline void ScaleRow(int64_t dim, const T* x, const T* weight, T rstd, T* y) {
  ForChunks<T>(dim, [&](int64_t c, auto lanes) {
    Store<T>(y + c, Load(weight + c, lanes) * (Load(x + c, lanes) * rstd), lanes);
  });
}

// With n = x * rstd: dx = rstd * (dy w - n mean(dy w n)), dw += dy n.
template <typename T>
inline void NormRowBackward(int64_t dim, const T* dy, const T* x, const T* weight, T rstd,
                            const T* residual, T* dx, T* d_weight) {
  Vec<T> dot{};
  ForChunks<T>(dim, [&](int64_t c, auto lanes) {
    const Vec<T> g = Load(dy + c, lanes), n = Load(x + c, lanes) * rstd;
    dot += g * Load(weight + c, lanes) * n;
    Store<T>(d_weight + c, Load(d_weight + c, lanes) + g * n, lanes);
  });
  const T mean = Sum<T>(dot) / static_cast<T>(dim);
  ForChunks<T>(dim, [&](int64_t c, auto lanes) {
    const Vec<T> n = Load(x + c, lanes) * rstd;
    Vec<T> d = (Load(dy + c, lanes) * Load(weight + c, lanes) - n * mean) * rstd;
    if (residual != nullptr) d += Load(residual + c, lanes);
    Store<T>(dx + c, d, lanes);
  });
}

// direction +1 rotates by the position's angle, -1 back (the gradient).
template <typename T>
inline void Rotate(int64_t half, const T* x, const T* cos, const T* sin, T direction, T* y) {
  ForChunks<T>(half, [&](int64_t c, auto lanes) {
    const Vec<T> a = Load(x + c, lanes), b = Load(x + half + c, lanes);
    const Vec<T> co = Load(cos + c, lanes), si = Load(sin + c, lanes) * direction;
    Store<T>(y + c, a * co - b * si, lanes);
    Store<T>(y + half + c, b * co + a * si, lanes);
  });
}

}  // namespace

template <typename T>
void RmsNorm(int64_t rows, int64_t dim, const T* x, const T* weight, double eps, T* y, T* rstd) {
  for (int64_t r = 0; r < rows; ++r) {
    const T s = InverseRms(dim, x + r * dim, eps);
    if (rstd != nullptr) rstd[r] = s;
    ScaleRow(dim, x + r * dim, weight, s, y + r * dim);
  }
}

template <typename T>
void RmsNormApply(int64_t rows, int64_t dim, const T* x, const T* weight, const T* rstd, T* y) {
  for (int64_t r = 0; r < rows; ++r) ScaleRow(dim, x + r * dim, weight, rstd[r], y + r * dim);
}

template <typename T>
void RmsNormBackward(int64_t rows, int64_t dim, const T* dy, const T* x, const T* weight,
                     const T* rstd, const T* residual, T* dx, T* d_weight) {
  for (int64_t r = 0; r < rows; ++r) {
    NormRowBackward(dim, dy + r * dim, x + r * dim, weight, rstd[r],
                    residual == nullptr ? nullptr : residual + r * dim, dx + r * dim, d_weight);
  }
}

template <typename T>
void HeadRopeForward(const HeadRope<T>& args, T* y, int64_t y_stride, T* rstd) {
  const int64_t half = args.head_dim / 2, all = args.heads + args.kv_heads;
  for (int64_t r = 0; r < args.rows; ++r) {
    const T* cos = args.cos + args.table_row[r] * half;
    const T* sin = args.sin + args.table_row[r] * half;
    for (int64_t h = 0; h < all; ++h) {
      const T* x = args.x + r * args.x_stride + h * args.head_dim;
      T* out = y + r * y_stride + h * args.head_dim;
      if (args.q_weight != nullptr) {
        const T s = InverseRms(args.head_dim, x, args.eps);
        if (rstd != nullptr) rstd[r * all + h] = s;
        ScaleRow(args.head_dim, x, h < args.heads ? args.q_weight : args.k_weight, s, out);
        x = out;
      }
      Rotate(half, x, cos, sin, T(1), out);
    }
  }
}

template <typename T>
void HeadRopeBackward(const HeadRope<T>& args, const T* rstd, const T* d_q, int64_t dq_stride,
                      const T* d_k, int64_t dk_stride, T* dx, int64_t dx_stride, T* d_q_weight,
                      T* d_k_weight) {
  const int64_t dim = args.head_dim, half = dim / 2, all = args.heads + args.kv_heads;
  Scratch<T> turned(dim);
  for (int64_t r = 0; r < args.rows; ++r) {
    const T* cos = args.cos + args.table_row[r] * half;
    const T* sin = args.sin + args.table_row[r] * half;
    for (int64_t h = 0; h < all; ++h) {
      const bool is_q = h < args.heads;
      const T* dy =
          is_q ? d_q + r * dq_stride + h * dim : d_k + r * dk_stride + (h - args.heads) * dim;
      T* out = dx + r * dx_stride + h * dim;
      if (args.q_weight == nullptr) {
        Rotate(half, dy, cos, sin, T(-1), out);
        continue;
      }
      Rotate(half, dy, cos, sin, T(-1), turned.get());
      NormRowBackward(dim, turned.get(), args.x + r * args.x_stride + h * dim,
                      is_q ? args.q_weight : args.k_weight, rstd[r * all + h],
                      static_cast<const T*>(nullptr), out, is_q ? d_q_weight : d_k_weight);
    }
  }
}

#define INSTANTIATE(T)                                                                         \
  template void RmsNorm<T>(int64_t, int64_t, const T*, const T*, double, T*, T*);              \
  template void RmsNormApply<T>(int64_t, int64_t, const T*, const T*, const T*, T*);           \
  template void RmsNormBackward<T>(int64_t, int64_t, const T*, const T*, const T*, const T*,   \
                                   const T*, T*, T*);                                          \
  template void HeadRopeForward<T>(const HeadRope<T>&, T*, int64_t, T*);                       \
  template void HeadRopeBackward<T>(const HeadRope<T>&, const T*, const T*, int64_t, const T*, \
                                    int64_t, T*, int64_t, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace tramontane::kernels::TRAMONTANE_ISA
