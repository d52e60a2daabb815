// Causal attention of a step's tokens over a paged KV cache, for the generator. Never
// differentiable. The result for one sequence does not depend on what else is in the batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/ops/paged_batch.h"

namespace tramontane {

// Shapes to allocate a layer's cache with. Keys are stored with the tokens of a block innermost, so
// that scores are computed for a block's tokens side by side; dimension 0 is the block in both, so
// a block is copied by copying index `i` of either tensor. At most 2^31 - 1 blocks.
std::vector<int64_t> KeyCacheShape(int64_t blocks, int64_t kv_heads, int64_t head_dim,
                                   int64_t block_tokens);  // [blocks, kv heads, head_dim, tokens]
std::vector<int64_t> ValueCacheShape(int64_t blocks, int64_t kv_heads, int64_t head_dim,
                                     int64_t block_tokens);  // [blocks, kv heads, tokens, head_dim]

// Writes the step's keys and values into the cache, then attends each token to its sequence's
// positions <= its own (and > its own - window_tokens, when that is not 0).
// q_THD [tokens, heads, head_dim]; k_TKD, v_TKD [tokens, kv heads, head_dim]; the last two
// dimensions contiguous, token stride free. out_THD: contiguous [tokens, heads, head_dim]; rows
// that no sequence names are left alone. All of one dtype: float32 or float64. `threads` > 1 splits
// sequences over ATen's pool. Safe from several threads on distinct caches.
void PagedAttentionCpu(const at::Tensor& q_THD, const at::Tensor& k_TKD, const at::Tensor& v_TKD,
                       at::Tensor& k_cache, at::Tensor& v_cache, const PagedBatch& batch,
                       double scale, int64_t window_tokens, at::Tensor& out_THD, int threads = 1);

// The same for any device and dtype through ATen operators (gather, then scaled dot product).
void PagedAttentionAten(const at::Tensor& q_THD, const at::Tensor& k_TKD, const at::Tensor& v_TKD,
                        at::Tensor& k_cache, at::Tensor& v_cache, const PagedBatch& batch,
                        double scale, int64_t window_tokens, at::Tensor& out_THD);

}  // namespace tramontane
