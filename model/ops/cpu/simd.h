// Vectors of the width that this unit is compiled for (compiler vector extensions, no intrinsics).
// Only for the kernel units: each is compiled once per instruction set, with TRAMONTANE_ISA naming
// its namespace, so nothing here may be an inline function or template of a shared namespace.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

namespace tramontane::kernels::TRAMONTANE_ISA {

#if defined(__AVX512F__)
constexpr int kVecBytes = 64;
#elif defined(__AVX__)
constexpr int kVecBytes = 32;
#else
constexpr int kVecBytes = 16;
#endif

template <typename T>
struct Simd {
  static constexpr int64_t kWidth = kVecBytes / sizeof(T);
  typedef T V __attribute__((vector_size(kVecBytes)));
};
template <typename T>
using Vec = typename Simd<T>::V;
template <typename T>
constexpr int64_t kWidth = Simd<T>::kWidth;

inline int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }
template <typename T>
inline int64_t RoundUp(int64_t n) {
  return (n + kWidth<T> - 1) / kWidth<T> * kWidth<T>;
}

template <typename T>
inline Vec<T> Set1(T x) {
  return x - Vec<T>{};  // exactly x, also for -0
}
template <typename T>
inline Vec<T> Load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
template <typename T>
inline void Store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// How many lanes of a chunk are real: all of them (known when compiling), or `n`.
struct Full {};
struct Tail {
  int64_t n;
};
template <typename T>
inline Vec<T> Load(const T* p, Full) {
  return Load(p);
}
template <typename T>
inline Vec<T> Load(const T* p, Tail tail) {
  Vec<T> v{};
  for (int64_t i = 0; i < tail.n; ++i) v[i] = p[i];
  return v;
}
template <typename T>
inline void Store(T* p, Vec<T> v, Full) {
  Store(p, v);
}
template <typename T>
inline void Store(T* p, Vec<T> v, Tail tail) {
  for (int64_t i = 0; i < tail.n; ++i) p[i] = v[i];
}
// f(first element, lanes) over [0, n).
template <typename T, typename F>
inline void ForChunks(int64_t n, F&& f) {
  int64_t c = 0;
  for (; c + kWidth<T> <= n; c += kWidth<T>) f(c, Full{});
  if (c < n) f(c, Tail{n - c});
}

template <typename T>
inline T Sum(Vec<T> v) {
  T s = 0;
  for (int i = 0; i < kWidth<T>; ++i) s += v[i];
  return s;
}
#if defined(__AVX512F__)
// By halves: four adds deep rather than sixteen.
template <>
inline float Sum<float>(Vec<float> v) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half h[2];
  __builtin_memcpy(h, &v, sizeof(h));
  const Half s = h[0] + h[1];
  Quarter q[2];
  __builtin_memcpy(q, &s, sizeof(q));
  const Quarter t = q[0] + q[1];
  return (t[0] + t[2]) + (t[1] + t[3]);
}
#endif
template <typename T>
inline Vec<T> VecMax(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}
template <typename T>
inline T MaxLane(Vec<T> v) {
  T m = v[0];
  for (int i = 1; i < kWidth<T>; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

inline Vec<double> Exp(Vec<double> x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}
// e^x = 2^n e^r with |r| <= ln2 / 2: the Taylor sum to r^7 leaves 5e-9, well under half an ulp.
// Below -87.3 (where floats turn subnormal) the result is 0, above 88.7 infinity; NaN stays NaN.
inline Vec<float> Exp(Vec<float> x) {
  typedef int32_t I __attribute__((vector_size(kVecBytes)));
  const Vec<float> zero{};
  const auto under = x < -87.33654f;
  const auto over = x > 88.72283f;
  const Vec<float> z = (under | over) ? zero : x;
  const Vec<float> scaled = z * 1.44269504f;
  const I n = __builtin_convertvector(scaled + (scaled < 0.0f ? zero - 0.5f : zero + 0.5f), I);
  const Vec<float> nf = __builtin_convertvector(n, Vec<float>);
  // ln 2 in two parts; the first has few bits, so that n times it is exact.
  const Vec<float> r = (z - nf * 0.693359375f) + nf * 2.12194440e-4f;
  Vec<float> p = r * (1.0f / 5040) + (1.0f / 720);
  p = p * r + (1.0f / 120);
  p = p * r + (1.0f / 24);
  p = p * r + (1.0f / 6);
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n in two factors: n may be 128, which one exponent cannot hold.
  const I half = n >> 1;
  const I a_bits = (half + 127) << 23, b_bits = (n - half + 127) << 23;
  Vec<float> a, b;
  __builtin_memcpy(&a, &a_bits, sizeof(a));
  __builtin_memcpy(&b, &b_bits, sizeof(b));
  const Vec<float> y = p * a * b;
  return under ? zero : (over ? zero + std::numeric_limits<float>::infinity() : y);
}

// Uninitialised working memory, aligned to a vector, freed with the scope.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t n)
      : p_(n == 0 ? nullptr
                  : static_cast<T*>(::operator new(static_cast<size_t>(n) * sizeof(T),
                                                   std::align_val_t{64}))) {}
  ~Scratch() { ::operator delete(p_, std::align_val_t{64}); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return p_; }

 private:
  T* p_;
};

}  // namespace tramontane::kernels::TRAMONTANE_ISA
