// A StepPlan as tensors: flat tokens and positions, the rows to sample, and the paged attention of
// the step. Buffers are made once and reused by every step. Engine thread only.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "generator/core/scheduler.h"
#include "generator/kv_cache.h"
#include "model/attention.h"
#include "model/model_config.h"
#include "model/ops/paged_batch.h"

namespace tramontane {

class StepBatch final : public Attention {
 public:
  // `max_tokens` in one step. `cache` outlives this.
  StepBatch(const ModelConfig& config, KvCache& cache, int32_t block_tokens, int32_t max_tokens,
            at::ScalarType dtype, int threads);

  // Row i of an item is the token `ahead` behind the item's ith, at the ith's position. The views
  // below are valid until the next call.
  void Build(const StepPlan& plan, int32_t ahead);
  const at::Tensor& tokens_T() const { return tokens_T_; }
  const at::Tensor& positions_T() const { return positions_T_; }
  // hidden [tokens, hidden] → [sampled rows, hidden], in the order of the plan's items.
  at::Tensor SampledRows(const at::Tensor& hidden_TD) const;

  at::Tensor Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                 const at::Tensor& v_TKD, double scale, int64_t window_tokens) override;

 private:
  KvCache& cache_;
  const int threads_;
  const bool own_kernel_;                             // paged_attention.h: float32 and float64
  const at::Tensor tokens_, positions_, rows_, out_;  // the buffers
  at::Tensor tokens_T_, positions_T_, rows_R_, out_THD_;
  PagedBatch paged_;
};

}  // namespace tramontane
