// Causal attention over packed segments, forward and backward, one key/value head at a time: its
// keys (and, backward, values) are transposed into working memory once for all query heads that
// share it, so that scores run over neighbouring keys and outputs over the head dimension. Those of
// a segment that others continue stay there for all of them.
#include "model/ops/cpu/isa.h"
#include "model/ops/cpu/simd.h"
#include "model/ops/cpu/tiles.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

namespace {

constexpr int kRows = 4;

// Rows [begin, end) of x become columns of xt, zero up to the next whole vector.
template <typename T>
void Transpose(const T* x, int64_t stride, int64_t begin, int64_t end, int64_t dim, T* xt,
               int64_t xt_stride) {
  for (int64_t j = begin; j < end; ++j) {
    for (int64_t d = 0; d < dim; ++d) xt[d * xt_stride + j] = x[j * stride + d];
  }
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t j = end; j < RoundUp<T>(end); ++j) xt[d * xt_stride + j] = 0;
  }
}

template <typename T>
void CopyPadded(const T* x, int64_t stride, int64_t begin, int64_t end, int64_t dim, T* y,
                int64_t padded_dim) {
  for (int64_t j = begin; j < end; ++j) {
    ForChunks<T>(dim, [&](int64_t c, auto lanes) {
      Store<T>(y + j * padded_dim + c, Load(x + j * stride + c, lanes));
    });
  }
}

template <typename T>
void StoreRow(const T* x, int64_t dim, T* y) {
  ForChunks<T>(dim, [&](int64_t c, auto lanes) { Store<T>(y + c, Load(x + c), lanes); });
}

// Scores of R rows against keys [begin, end), begin and end multiples of the width.
template <typename T, int R>
void Scores(const T* q, int64_t q_stride, const T* kt, int64_t kt_stride, int64_t dim,
            int64_t begin, int64_t end, T* s, int64_t s_stride) {
  int64_t j = begin;
  for (; j + 2 * kWidth<T> <= end; j += 2 * kWidth<T>) {
    ScoreTile<T, R, 2>(q, q_stride, kt + j, kt_stride, dim, s + j, s_stride);
  }
  if (j < end) ScoreTile<T, R, 1>(q, q_stride, kt + j, kt_stride, dim, s + j, s_stride);
}

// y[r] = factor[r] * sum over keys [begin, end) of p[r][j] v[j]; y rows are `dim` long.
template <typename T, int R>
void WeightedRows(const T* p, int64_t p_stride, const T* v, int64_t padded_dim, int64_t dim,
                  int64_t begin, int64_t end, const T* factor, T* y, int64_t y_stride) {
  int64_t c = 0;
  for (; c + 2 * kWidth<T> <= padded_dim; c += 2 * kWidth<T>) {
    Vec<T> acc[R][2] = {};
    AddValues<T, R, 2>(acc, p, p_stride, v + c, padded_dim, begin, end);
    for (int r = 0; r < R; ++r) {
      const int64_t second = dim - c - kWidth<T>;
      Store<T>(y + r * y_stride + c, acc[r][0] * factor[r]);
      if (second >= kWidth<T>) {
        Store<T>(y + r * y_stride + c + kWidth<T>, acc[r][1] * factor[r]);
      } else {
        Store<T>(y + r * y_stride + c + kWidth<T>, acc[r][1] * factor[r], Tail{second});
      }
    }
  }
  if (c < padded_dim) {
    Vec<T> acc[R][1] = {};
    AddValues<T, R, 1>(acc, p, p_stride, v + c, padded_dim, begin, end);
    for (int r = 0; r < R; ++r) {
      Store<T>(y + r * y_stride + c, acc[r][0] * factor[r], Tail{Min(dim - c, kWidth<T>)});
    }
  }
}

template <typename T, int R>
void OuterRows(const T* p, int64_t p_stride, const T* rows, T* dst, int64_t padded_dim,
               int64_t begin, int64_t end) {
  int64_t c = 0;
  for (; c + 2 * kWidth<T> <= padded_dim; c += 2 * kWidth<T>) {
    AddOuter<T, R, 2>(p, p_stride, rows + c, padded_dim, dst + c, padded_dim, begin, end);
  }
  if (c < padded_dim) {
    AddOuter<T, R, 1>(p, p_stride, rows + c, padded_dim, dst + c, padded_dim, begin, end);
  }
}

// The keys that rows [i, i + R) see together, widened to whole vectors.
template <typename T>
struct KeyRange {
  KeyRange(int64_t i, int64_t rows, int64_t window)
      : low(window > 0 ? Max(0, i - window + 1) : 0),
        begin(low / kWidth<T> * kWidth<T>),
        high(i + rows),
        end(RoundUp<T>(high)) {}
  int64_t low, begin, high, end;
};

inline int64_t FirstKey(int64_t i, int64_t window) {
  return window > 0 ? Max(0, i - window + 1) : 0;
}

template <typename T, int R>
void ForwardRows(const PackedHeads<T>& a, int64_t start, int64_t i, int64_t head, const T* kt,
                 int64_t padded, const T* v, int64_t padded_dim, T* s, T* out, T* lse) {
  const KeyRange<T> keys(i, R, a.window);
  const T* q = a.q + (start + i) * a.q_stride + head * a.head_dim;
  Scores<T, R>(q, a.q_stride, kt, padded, a.head_dim, keys.begin, keys.end, s, padded);
  T inverse[R];
  for (int r = 0; r < R; ++r) {
    T top;
    T* row = s + r * padded + keys.begin;
    const T sum = SoftmaxRow<T>(row, FirstKey(i + r, a.window) - keys.begin, i + r + 1 - keys.begin,
                                keys.end - keys.begin, static_cast<T>(a.scale), &top);
    inverse[r] = T(1) / sum;
    if (lse != nullptr) {
      lse[(start + i + r) * a.heads + head] = top * static_cast<T>(a.scale) + std::log(sum);
    }
  }
  WeightedRows<T, R>(s, padded, v, padded_dim, a.head_dim, keys.low, keys.high, inverse,
                     out + ((start + i) * a.heads + head) * a.head_dim, a.heads * a.head_dim);
}

template <typename T>
struct BackwardScratch {
  const T *kt, *vt, *k;   // [dim, padded] twice, [length, padded_dim]
  T *dk, *dv;             // [length, padded_dim]
  T *s, *dp, *q, *d_out;  // [kRows, padded] twice, [kRows, padded_dim] twice
  int64_t padded, padded_dim;
};

template <typename T, int R>
void BackwardRows(const PackedHeads<T>& a, const PackedHeadsGrad<T>& g, int64_t start, int64_t i,
                  int64_t head, const BackwardScratch<T>& w) {
  const KeyRange<T> keys(i, R, a.window);
  const int64_t out_stride = a.heads * a.head_dim;
  const int64_t row0 = start + i;
  const T* q = a.q + row0 * a.q_stride + head * a.head_dim;
  const T* d_out = g.d_out + row0 * out_stride + head * a.head_dim;
  const T* out = g.out + row0 * out_stride + head * a.head_dim;
  Scores<T, R>(q, a.q_stride, w.kt, w.padded, a.head_dim, keys.begin, keys.end, w.s, w.padded);
  Scores<T, R>(d_out, out_stride, w.vt, w.padded, a.head_dim, keys.begin, keys.end, w.dp, w.padded);
  CopyPadded(q, a.q_stride, 0, R, a.head_dim, w.q, w.padded_dim);
  CopyPadded(d_out, out_stride, 0, R, a.head_dim, w.d_out, w.padded_dim);

  const T scale = static_cast<T>(a.scale);
  T one[R];
  for (int r = 0; r < R; ++r) {
    one[r] = 1;
    Vec<T> dot{};
    ForChunks<T>(a.head_dim, [&](int64_t c, auto lanes) {
      dot += Load(d_out + r * out_stride + c, lanes) * Load(out + r * out_stride + c, lanes);
    });
    const T delta = Sum<T>(dot);
    const T lse = g.lse[(row0 + r) * a.heads + head];
    T* s = w.s + r * w.padded;
    T* dp = w.dp + r * w.padded;
    for (int64_t j = keys.begin; j < keys.end; j += kWidth<T>) {
      const Vec<T> p = Exp(Load(s + j) * scale - lse);
      Store<T>(s + j, p);
      Store<T>(dp + j, p * (Load(dp + j) - delta) * scale);
    }
    for (int64_t j = keys.begin; j < FirstKey(i + r, a.window); ++j) s[j] = dp[j] = 0;
    for (int64_t j = i + r + 1; j < keys.end; ++j) s[j] = dp[j] = 0;
  }
  WeightedRows<T, R>(w.dp, w.padded, w.k, w.padded_dim, a.head_dim, keys.low, keys.high, one,
                     g.d_q + row0 * g.dq_stride + head * a.head_dim, g.dq_stride);
  OuterRows<T, R>(w.dp, w.padded, w.q, w.dk, w.padded_dim, keys.low, keys.high);
  OuterRows<T, R>(w.s, w.padded, w.d_out, w.dv, w.padded_dim, keys.low, keys.high);
}

template <typename T>
void Zero(T* p, int64_t n) {
  if (n > 0) std::memset(p, 0, static_cast<size_t>(n) * sizeof(T));
}

// Where a segment's sequence lies: position i is row start + i for positions [begin, end); those
// before `begin` are the positions of the segment that it continues.
struct Positions {
  int64_t start, begin, end;
};

// Segments [first, end): one that continues none, and all that continue it.
template <typename T>
struct Bundle {
  Bundle(const PackedHeads<T>& args, int64_t first_segment)
      : a(args), first(first_segment), end(first + 1), shared(Length(first)), longest(shared) {
    for (; end < a.segments && a.continues != nullptr && a.continues[end] != 0; ++end) {
      longest = Max(longest, shared + Length(end));
    }
  }
  int64_t Length(int64_t seg) const { return a.offsets[seg + 1] - a.offsets[seg]; }
  Positions Of(int64_t seg) const {
    if (seg == first) return {a.offsets[seg], 0, shared};
    return {a.offsets[seg] - shared, shared, shared + Length(seg)};
  }

  const PackedHeads<T>& a;
  int64_t first, end, shared, longest;  // the latter two in positions
};

template <typename T>
int64_t LongestBundle(const PackedHeads<T>& a) {
  int64_t longest = 0;
  for (int64_t seg = 0; seg < a.segments;) {
    const Bundle<T> bundle(a, seg);
    longest = Max(longest, bundle.longest);
    seg = bundle.end;
  }
  return longest;
}

template <typename T>
void StoreGrads(const PackedHeadsGrad<T>& g, const BackwardScratch<T>& w, const Positions& at,
                int64_t dim, int64_t column) {
  for (int64_t j = at.begin; j < at.end; ++j) {
    StoreRow(w.dk + j * w.padded_dim, dim, g.d_k + (at.start + j) * g.dk_stride + column);
    StoreRow(w.dv + j * w.padded_dim, dim, g.d_v + (at.start + j) * g.dv_stride + column);
  }
}

// Keys, values and gradients of one key/value head over a bundle. The first segment's keys and
// values gather gradients from all that continue it.
template <typename T>
void BackwardHead(const PackedHeads<T>& a, const PackedHeadsGrad<T>& g, const Bundle<T>& bundle,
                  int64_t h, T* kt, T* vt, T* k, const BackwardScratch<T>& w) {
  const int64_t column = h * a.head_dim, group = a.heads / a.kv_heads;
  for (int64_t seg = bundle.first; seg < bundle.end; ++seg) {
    const Positions at = bundle.Of(seg);
    const T* k_rows = a.k + at.start * a.k_stride + column;
    const T* v_rows = a.v + at.start * a.v_stride + column;
    Transpose(k_rows, a.k_stride, at.begin, at.end, a.head_dim, kt, w.padded);
    Transpose(v_rows, a.v_stride, at.begin, at.end, a.head_dim, vt, w.padded);
    CopyPadded(k_rows, a.k_stride, at.begin, at.end, a.head_dim, k, w.padded_dim);
    const int64_t first = at.begin * w.padded_dim, n = (at.end - at.begin) * w.padded_dim;
    Zero(w.dk + first, n);
    Zero(w.dv + first, n);
    for (int64_t head = h * group; head < (h + 1) * group; ++head) {
      int64_t i = at.begin;
      for (; i + kRows <= at.end; i += kRows) BackwardRows<T, kRows>(a, g, at.start, i, head, w);
      for (; i < at.end; ++i) BackwardRows<T, 1>(a, g, at.start, i, head, w);
    }
    if (seg != bundle.first) StoreGrads(g, w, at, a.head_dim, column);
  }
  StoreGrads(g, w, bundle.Of(bundle.first), a.head_dim, column);
}

template <typename T>
void ForwardHead(const PackedHeads<T>& a, const Bundle<T>& bundle, int64_t h, T* kt, T* v,
                 int64_t padded_dim, T* s, T* out, T* lse) {
  const int64_t column = h * a.head_dim, group = a.heads / a.kv_heads;
  const int64_t padded = RoundUp<T>(bundle.longest);
  for (int64_t seg = bundle.first; seg < bundle.end; ++seg) {
    const Positions at = bundle.Of(seg);
    Transpose(a.k + at.start * a.k_stride + column, a.k_stride, at.begin, at.end, a.head_dim, kt,
              padded);
    CopyPadded(a.v + at.start * a.v_stride + column, a.v_stride, at.begin, at.end, a.head_dim, v,
               padded_dim);
    for (int64_t head = h * group; head < (h + 1) * group; ++head) {
      int64_t i = at.begin;
      for (; i + kRows <= at.end; i += kRows) {
        ForwardRows<T, kRows>(a, at.start, i, head, kt, padded, v, padded_dim, s, out, lse);
      }
      for (; i < at.end; ++i) {
        ForwardRows<T, 1>(a, at.start, i, head, kt, padded, v, padded_dim, s, out, lse);
      }
    }
  }
}

}  // namespace

template <typename T>
void PackedForward(const PackedHeads<T>& a, T* out, T* lse) {
  const int64_t most = RoundUp<T>(LongestBundle(a)), padded_dim = RoundUp<T>(a.head_dim);
  Scratch<T> kt(a.head_dim * most), v(most * padded_dim), s(kRows * most);
  for (int64_t seg = 0; seg < a.segments;) {
    const Bundle<T> bundle(a, seg);
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      ForwardHead(a, bundle, h, kt.get(), v.get(), padded_dim, s.get(), out, lse);
    }
    seg = bundle.end;
  }
}

template <typename T>
void PackedBackward(const PackedHeads<T>& a, const PackedHeadsGrad<T>& g) {
  const int64_t most = RoundUp<T>(LongestBundle(a)), padded_dim = RoundUp<T>(a.head_dim);
  Scratch<T> kt(a.head_dim * most), vt(a.head_dim * most), k(most * padded_dim);
  Scratch<T> dk(most * padded_dim), dv(most * padded_dim), s(kRows * most), dp(kRows * most);
  Scratch<T> q(kRows * padded_dim), d_out(kRows * padded_dim);
  for (int64_t seg = 0; seg < a.segments;) {
    const Bundle<T> bundle(a, seg);
    const BackwardScratch<T> w{
        kt.get(),  vt.get(), k.get(), dk.get(),    dv.get(),
        s.get(),   dp.get(), q.get(), d_out.get(), RoundUp<T>(bundle.longest),
        padded_dim};
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      BackwardHead(a, g, bundle, h, kt.get(), vt.get(), k.get(), w);
    }
    seg = bundle.end;
  }
}

#define INSTANTIATE(T)                                           \
  template void PackedForward<T>(const PackedHeads<T>&, T*, T*); \
  template void PackedBackward<T>(const PackedHeads<T>&, const PackedHeadsGrad<T>&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace tramontane::kernels::TRAMONTANE_ISA
