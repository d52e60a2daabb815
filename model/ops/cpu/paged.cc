// Attention of one sequence's new rows over its paged keys and values.
#include "model/ops/cpu/isa.h"
#include "model/ops/cpu/simd.h"
#include "model/ops/cpu/tiles.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

namespace {

template <typename T>
T* Block(T* cache, const PagedRows<T>& a, int64_t index, int64_t kv_head) {
  return cache + (a.block_table[index] * a.kv_heads + kv_head) * a.head_dim * a.block_tokens;
}

// Scores of R rows against V vectors of keys, which need not lie together. Side by side, the V
// chains of multiply-adds hide each other's latency.
template <typename T, int R, int V>
void ScoreVectors(const PagedRows<T>& a, const T* q, const T* const* kt, T* s, int64_t s_stride) {
  Vec<T> acc[R][V] = {};
  for (int64_t d = 0; d < a.head_dim; ++d) {
    Vec<T> k[V];
    for (int v = 0; v < V; ++v) {
      k[v] = Load(kt[v] + d * a.block_tokens);
      // One row has too little arithmetic to hide the way of values from memory: they set out now.
      // They lie in their cache as the keys do in theirs.
      if (R == 1) __builtin_prefetch(a.v_cache + (kt[v] - a.k_cache) + d * a.block_tokens);
    }
    for (int r = 0; r < R; ++r) {
      const Vec<T> b = Set1(q[r * a.head_dim + d]);
      for (int v = 0; v < V; ++v) acc[r][v] += b * k[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) Store<T>(s + r * s_stride + v * kWidth<T>, acc[r][v]);
  }
}

// Scores of R rows against one block's tokens, any block size.
template <typename T, int R>
void BlockScores(const PagedRows<T>& a, const T* q, const T* kt, T* s, int64_t s_stride) {
  int64_t t = 0;
  for (; t + kWidth<T> <= a.block_tokens; t += kWidth<T>) {
    const T* at_t = kt + t;
    ScoreVectors<T, R, 1>(a, q, &at_t, s + t, s_stride);
  }
  for (; t < a.block_tokens; ++t) {
    for (int r = 0; r < R; ++r) {
      T dot = 0;
      for (int64_t d = 0; d < a.head_dim; ++d)
        dot += q[r * a.head_dim + d] * kt[d * a.block_tokens + t];
      s[r * s_stride + t] = dot;
    }
  }
}

// Scores of R rows against blocks [first, last].
template <typename T, int R>
void Scores(const PagedRows<T>& a, int64_t kv_head, int64_t first, int64_t last, const T* q, T* s,
            int64_t s_stride) {
  constexpr int kTogether = R <= 2 ? 4 : 2;
  const int64_t bt = a.block_tokens;
  if (bt % kWidth<T> != 0) {
    for (int64_t b = first; b <= last; ++b)
      BlockScores<T, R>(a, q, Block<T>(a.k_cache, a, b, kv_head), s + (b - first) * bt, s_stride);
    return;
  }
  const int64_t per_block = bt / kWidth<T>, vectors = (last - first + 1) * per_block;
  const auto keys = [&](int64_t v) {
    return Block<T>(a.k_cache, a, first + v / per_block, kv_head) + v % per_block * kWidth<T>;
  };
  int64_t v = 0;
  for (; v + kTogether <= vectors; v += kTogether) {
    const T* kt[kTogether];
    for (int i = 0; i < kTogether; ++i) kt[i] = keys(v + i);
    ScoreVectors<T, R, kTogether>(a, q, kt, s + v * kWidth<T>, s_stride);
  }
  for (; v < vectors; ++v) {
    const T* kt = keys(v);
    ScoreVectors<T, R, 1>(a, q, &kt, s + v * kWidth<T>, s_stride);
  }
}

// One tile: rows `first`.. of the flattened (token, head of the group) list of one kv head.
template <typename T, int R>
void AttendTile(const PagedRows<T>& a, int64_t kv_head, int64_t first, T* q, T* s,
                int64_t s_stride) {
  const int64_t group = a.heads / a.kv_heads, bt = a.block_tokens;
  int64_t position[R];
  T* out[R];
  for (int r = 0; r < R; ++r) {
    const int64_t token = (first + r) / group, head = kv_head * group + (first + r) % group;
    position[r] = a.first_position + token;
    out[r] = a.out + (token * a.heads + head) * a.head_dim;
    std::memcpy(q + r * a.head_dim, a.q + token * a.q_stride + head * a.head_dim,
                static_cast<size_t>(a.head_dim) * sizeof(T));
  }
  const int64_t lowest = a.window > 0 ? Max(0, position[0] - a.window + 1) : 0;
  const int64_t first_block = lowest / bt, last_block = position[R - 1] / bt;
  const int64_t base = first_block * bt;
  Scores<T, R>(a, kv_head, first_block, last_block, q, s, s_stride);
  T inverse[R];
  for (int r = 0; r < R; ++r) {
    const int64_t low = a.window > 0 ? Max(0, position[r] - a.window + 1) : 0;
    T top;
    inverse[r] =
        T(1) / SoftmaxRow<T>(s + r * s_stride, low - base, position[r] + 1 - base,
                             RoundUp<T>(position[R - 1] + 1 - base), static_cast<T>(a.scale), &top);
  }
  int64_t c = 0;
  // C vectors of values at a time: chains of multiply-adds that hide each other's latency. The
  // range is the tile's widest; keys outside a row's own have probability 0.
  const auto sum_values = [&]<int C>() {
    for (; c + C * kWidth<T> <= a.head_dim; c += C * kWidth<T>) {
      Vec<T> acc[R][C] = {};
      for (int64_t b = first_block; b <= last_block; ++b) {
        const int64_t begin = Max(lowest - b * bt, 0), end = Min(position[R - 1] + 1 - b * bt, bt);
        AddValues<T, R, C>(acc, s + b * bt - base, s_stride, Block<T>(a.v_cache, a, b, kv_head) + c,
                           a.head_dim, begin, end);
      }
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < C; ++v) Store<T>(out[r] + c + v * kWidth<T>, acc[r][v] * inverse[r]);
      }
    }
  };
  if constexpr (R == 1) sum_values.template operator()<4>();
  sum_values.template operator()<2>();
  sum_values.template operator()<1>();
  for (; c < a.head_dim; ++c) {
    for (int r = 0; r < R; ++r) {
      T sum = 0;
      for (int64_t j = lowest; j <= position[R - 1]; ++j) {
        sum += s[r * s_stride + j - base] *
               Block<T>(a.v_cache, a, j / bt, kv_head)[j % bt * a.head_dim + c];
      }
      out[r][c] = sum * inverse[r];
    }
  }
}

}  // namespace

template <typename T>
void PagedWrite(const PagedRows<T>& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t position = a.first_position + r, t = position % a.block_tokens;
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      T* k = Block<T>(a.k_cache, a, position / a.block_tokens, h) + t;
      T* v = Block<T>(a.v_cache, a, position / a.block_tokens, h) + t * a.head_dim;
      for (int64_t d = 0; d < a.head_dim; ++d) {
        k[d * a.block_tokens] = a.k[r * a.k_stride + h * a.head_dim + d];
      }
      std::memcpy(v, a.v + r * a.v_stride + h * a.head_dim,
                  static_cast<size_t>(a.head_dim) * sizeof(T));
    }
  }
}

template <typename T>
void PagedAttend(const PagedRows<T>& a) {
  const int64_t blocks = (a.first_position + a.rows - 1) / a.block_tokens + 1;
  const int64_t s_stride = RoundUp<T>(blocks * a.block_tokens) + kWidth<T>;
  const int64_t rows = a.rows * (a.heads / a.kv_heads);
  Scratch<T> own(a.scratch == nullptr ? 4 * (a.head_dim + s_stride) : 0);
  T* q = a.scratch == nullptr ? own.get() : a.scratch;
  T* s = q + 4 * a.head_dim;
  const int64_t end = a.end_kv_head < 0 ? a.kv_heads : a.end_kv_head;
  for (int64_t h = a.first_kv_head; h < end; ++h) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) AttendTile<T, 4>(a, h, i, q, s, s_stride);
    for (; i + 2 <= rows; i += 2) AttendTile<T, 2>(a, h, i, q, s, s_stride);
    for (; i < rows; ++i) AttendTile<T, 1>(a, h, i, q, s, s_stride);
  }
}

#define INSTANTIATE(T)                              \
  template void PagedWrite<T>(const PagedRows<T>&); \
  template void PagedAttend<T>(const PagedRows<T>&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace tramontane::kernels::TRAMONTANE_ISA
