// The CPU's hand-written inner loops: plain pointers in, plain pointers out, no torch. Each is
// compiled for several instruction sets; Kernels<T>() returns the best table for this machine.
//
// All functions are single-threaded, hold no state and may run in several threads at once. NaN and
// infinity pass through. T is float or double. Buffers need no alignment; rows are contiguous
// unless a stride (in elements) is given.
#pragma once

#include <cstdint>

namespace tramontane::kernels {

// Optional RMS norm per head (weights null: none), then rotary embedding, over `heads` query heads
// and `kv_heads` key heads that lie one after the other in a row.
template <typename T>
struct HeadRope {
  int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  const T* x = nullptr;
  int64_t x_stride = 0;
  const T *q_weight = nullptr, *k_weight = nullptr;  // [head_dim] each, both or none
  double eps = 0;
  const T *cos = nullptr, *sin = nullptr;  // [table rows, head_dim / 2]
  const int64_t* table_row = nullptr;      // [rows]
};

// Segments of packed sequences: segment s is rows [offsets[s], offsets[s + 1]). One that continues
// (continues[s] != 0) attends to itself and, before that, to the last segment before it that
// continues none: the two are one sequence, whose beginning others may share.
template <typename T>
struct PackedHeads {
  int64_t segments = 0;
  const int64_t* offsets = nullptr;
  const int64_t* continues = nullptr;  // [segments]; null: none does
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  const T *q = nullptr, *k = nullptr, *v = nullptr;  // [rows, (kv) heads, head_dim]
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;  // of a row
  double scale = 1;
  int64_t window = 0;  // tokens; 0 = all
};

template <typename T>
struct PackedHeadsGrad {
  const T *out = nullptr, *d_out = nullptr;  // contiguous [rows, heads, head_dim]
  const T* lse = nullptr;                    // [rows, heads]
  T *d_q = nullptr, *d_k = nullptr, *d_v = nullptr;
  int64_t dq_stride = 0, dk_stride = 0, dv_stride = 0;
};

// One sequence of a paged batch; see model/ops/paged_batch.h.
template <typename T>
struct PagedRows {
  int64_t rows = 0, first_position = 0;
  const int32_t* block_table = nullptr;
  int64_t block_tokens = 0, heads = 0, kv_heads = 0, head_dim = 0;
  const T *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  T *k_cache = nullptr, *v_cache = nullptr;
  double scale = 1;
  int64_t window = 0;
  T* out = nullptr;  // contiguous [rows, heads, head_dim]
  // Heads to attend with: key heads [first_kv_head, end_kv_head) and their queries; −1: to the last.
  int64_t first_kv_head = 0, end_kv_head = -1;
  T* scratch = nullptr;  // PagedScratch elements; null: allocated by the call
};

// Working memory of paged_attend for positions below `positions`, in elements.
constexpr int64_t PagedScratch(int64_t head_dim, int64_t block_tokens, int64_t positions) {
  return 4 * (head_dim + positions + block_tokens + 32);
}

template <typename T>
struct KernelTable {
  const char* isa;

  // y = x / rms(x) * weight; rstd [rows] may be null.
  void (*rms_norm)(int64_t rows, int64_t dim, const T* x, const T* weight, double eps, T* y,
                   T* rstd);
  // y again from a kept rstd.
  void (*rms_norm_apply)(int64_t rows, int64_t dim, const T* x, const T* weight, const T* rstd,
                         T* y);
  // dx = gradient through the norm + residual (null: none); d_weight [dim] is added to.
  void (*rms_norm_backward)(int64_t rows, int64_t dim, const T* dy, const T* x, const T* weight,
                            const T* rstd, const T* residual, T* dx, T* d_weight);

  // y rows of (heads + kv_heads) * head_dim at y_stride; may be x itself. rstd [rows, heads +
  // kv_heads] may be null.
  void (*head_rope)(const HeadRope<T>& args, T* y, int64_t y_stride, T* rstd);
  // From d_q, d_k (rotated side) to dx; d_q_weight, d_k_weight [head_dim] are added to. args.x and
  // rstd are read only when there is a norm.
  void (*head_rope_backward)(const HeadRope<T>& args, const T* rstd, const T* d_q,
                             int64_t dq_stride, const T* d_k, int64_t dk_stride, T* dx,
                             int64_t dx_stride, T* d_q_weight, T* d_k_weight);

  // gate_up [rows, 2 width]: y = silu(gate) * up, [rows, width].
  void (*silu_mul)(int64_t rows, int64_t width, const T* gate_up, T* y);
  // d_gate_up from dy; y [rows, width] is computed again for the weight gradient.
  void (*silu_mul_backward)(int64_t rows, int64_t width, const T* gate_up, const T* dy,
                            T* d_gate_up, T* y);

  // out contiguous [rows, heads, head_dim]; lse [rows, heads] may be null.
  void (*packed_attention)(const PackedHeads<T>& args, T* out, T* lse);
  void (*packed_attention_backward)(const PackedHeads<T>& args, const PackedHeadsGrad<T>& grad);

  void (*paged_write)(const PagedRows<T>& args);   // the rows' keys and values into the cache
  void (*paged_attend)(const PagedRows<T>& args);  // reads the cache only

  // z = logits * inv_temperature: logprob[r] = z[target] - lse, lse[r], and entropy[r] unless null.
  void (*log_softmax_gather)(int64_t rows, int64_t vocab, const T* logits, double inv_temperature,
                             const int64_t* targets, T* logprob, T* lse, T* entropy);
  // Turns logits into their gradient in place; d_entropy and entropy may be null together.
  void (*log_softmax_backward)(int64_t rows, int64_t vocab, T* logits, double inv_temperature,
                               const int64_t* targets, const T* lse, const T* d_logprob,
                               const T* entropy, const T* d_entropy);

  void (*exp)(int64_t n, const T* x, T* y);  // for tests of the exponential itself
};

template <typename T>
const KernelTable<T>& Kernels();
// Every table that this machine can run, the best first: for tests.
template <typename T>
int RunnableKernels(const KernelTable<T>* tables[3]);

}  // namespace tramontane::kernels
