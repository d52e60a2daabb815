// SwiGLU's activation, and log-softmax with its gradient.
#include "model/ops/cpu/isa.h"
#include "model/ops/cpu/simd.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

template <typename T>
void SiluMul(int64_t rows, int64_t width, const T* gate_up, T* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = gate_up + r * 2 * width;
    const T* up = gate + width;
    T* out = y + r * width;
    ForChunks<T>(width, [&](int64_t c, auto lanes) {
      const Vec<T> g = Load(gate + c, lanes);
      Store<T>(out + c, g / (Exp(-g) + T(1)) * Load(up + c, lanes), lanes);
    });
  }
}

template <typename T>
void SiluMulBackward(int64_t rows, int64_t width, const T* gate_up, const T* dy, T* d_gate_up,
                     T* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = gate_up + r * 2 * width;
    const T* up = gate + width;
    T* d_gate = d_gate_up + r * 2 * width;
    T* d_up = d_gate + width;
    ForChunks<T>(width, [&](int64_t c, auto lanes) {
      const Vec<T> g = Load(gate + c, lanes), u = Load(up + c, lanes);
      const Vec<T> d = Load(dy + r * width + c, lanes);
      const Vec<T> sigmoid = T(1) / (Exp(-g) + T(1));
      const Vec<T> silu = g * sigmoid;
      Store<T>(d_up + c, d * silu, lanes);
      // silu' = sigmoid + silu (1 - sigmoid)
      Store<T>(d_gate + c, d * u * (sigmoid + silu * (T(1) - sigmoid)), lanes);
      Store<T>(y + r * width + c, silu * u, lanes);
    });
  }
}

template <typename T>
void LogSoftmaxGather(int64_t rows, int64_t vocab, const T* logits, double inv_temperature,
                      const int64_t* targets, T* logprob, T* lse, T* entropy) {
  const T inv = static_cast<T>(inv_temperature);
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = logits + r * vocab;
    T top = row[0];
    Vec<T> tops = Set1<T>(top);
    ForChunks<T>(vocab, [&](int64_t c, auto lanes) {
      if constexpr (std::is_same_v<decltype(lanes), Full>) {
        tops = VecMax<T>(tops, Load(row + c));
      } else {
        for (int64_t i = 0; i < lanes.n; ++i) top = row[c + i] > top ? row[c + i] : top;
      }
    });
    const T vec_top = MaxLane<T>(tops);
    const T shift = (vec_top > top ? vec_top : top) * inv;
    // Sum of e^(z - shift), and of (z - shift) times it for the entropy.
    Vec<T> sums{}, weighted{};
    T sum = 0, weighted_sum = 0;
    ForChunks<T>(vocab, [&](int64_t c, auto lanes) {
      const Vec<T> z = Load(row + c, lanes) * inv - shift;
      const Vec<T> e = Exp(z);
      if constexpr (std::is_same_v<decltype(lanes), Full>) {
        sums += e;
        weighted += e * z;
      } else {
        for (int64_t i = 0; i < lanes.n; ++i) {
          sum += e[i];
          weighted_sum += e[i] * z[i];
        }
      }
    });
    sum += Sum<T>(sums);
    weighted_sum += Sum<T>(weighted);
    const T log_sum = std::log(sum);
    lse[r] = shift + log_sum;
    logprob[r] = row[targets[r]] * inv - shift - log_sum;
    if (entropy != nullptr) entropy[r] = log_sum - weighted_sum / sum;
  }
}

template <typename T>
void LogSoftmaxBackward(int64_t rows, int64_t vocab, T* logits, double inv_temperature,
                        const int64_t* targets, const T* lse, const T* d_logprob, const T* entropy,
                        const T* d_entropy) {
  const T inv = static_cast<T>(inv_temperature);
  for (int64_t r = 0; r < rows; ++r) {
    T* row = logits + r * vocab;
    const T d_lp = d_logprob[r] * inv;
    if (d_entropy == nullptr) {
      ForChunks<T>(vocab, [&](int64_t c, auto lanes) {
        const Vec<T> logp = Load(row + c, lanes) * inv - lse[r];
        Store<T>(row + c, Exp(logp) * -d_lp, lanes);
      });
    } else {
      const T d_ent = d_entropy[r] * inv;
      ForChunks<T>(vocab, [&](int64_t c, auto lanes) {
        const Vec<T> logp = Load(row + c, lanes) * inv - lse[r];
        // dH/dz = -p (log p + H)
        Store<T>(row + c, Exp(logp) * (-d_lp - (logp + entropy[r]) * d_ent), lanes);
      });
    }
    row[targets[r]] += d_lp;
  }
}

template <typename T>
void ExpAll(int64_t n, const T* x, T* y) {
  ForChunks<T>(n, [&](int64_t c, auto lanes) { Store<T>(y + c, Exp(Load(x + c, lanes)), lanes); });
}

#define INSTANTIATE(T)                                                                          \
  template void SiluMul<T>(int64_t, int64_t, const T*, T*);                                     \
  template void SiluMulBackward<T>(int64_t, int64_t, const T*, const T*, T*, T*);               \
  template void LogSoftmaxGather<T>(int64_t, int64_t, const T*, double, const int64_t*, T*, T*, \
                                    T*);                                                        \
  template void LogSoftmaxBackward<T>(int64_t, int64_t, T*, double, const int64_t*, const T*,   \
                                      const T*, const T*, const T*);                            \
  template void ExpAll<T>(int64_t, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace tramontane::kernels::TRAMONTANE_ISA
