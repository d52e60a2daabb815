#include "generator/step_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/ops/paged_attention.h"

namespace tramontane {

StepBatch::StepBatch(const ModelConfig& config, KvCache& cache, int32_t block_tokens,
                     int32_t max_tokens, at::ScalarType dtype, int threads)
    : cache_(cache),
      threads_(threads),
      own_kernel_(dtype == at::kFloat || dtype == at::kDouble),
      tokens_(at::empty({max_tokens}, at::kLong)),
      positions_(at::empty({max_tokens}, at::kLong)),
      rows_(at::empty({max_tokens}, at::kLong)),
      out_(at::empty({max_tokens, config.num_heads, config.head_dim}, dtype)) {
  paged_.block_tokens = block_tokens;
}

void StepBatch::Build(const StepPlan& plan, int32_t ahead) {
  paged_.Clear();
  int64_t* tokens = tokens_.mutable_data_ptr<int64_t>();
  int64_t* positions = positions_.mutable_data_ptr<int64_t>();
  int64_t* rows = rows_.mutable_data_ptr<int64_t>();
  int32_t row = 0, wanted = 0;
  for (const StepItem& item : plan.items) {
    const Sequence& sequence = *item.sequence;
    paged_.sequences.push_back({.first_row = row,
                                .num_rows = item.count,
                                .first_position = item.start,
                                .table_begin = static_cast<int32_t>(paged_.block_tables.size())});
    paged_.block_tables.insert(paged_.block_tables.end(), sequence.blocks.begin(),
                               sequence.blocks.end());
    for (int32_t i = 0; i < item.count; ++i, ++row) {
      tokens[row] = sequence.tokens[item.start + i + ahead];
      positions[row] = item.start + i;
    }
    for (int32_t i = row - item.logit_rows; i < row; ++i) rows[wanted++] = i;
  }
  tokens_T_ = tokens_.narrow(0, 0, row);
  positions_T_ = positions_.narrow(0, 0, row);
  rows_R_ = rows_.narrow(0, 0, wanted);
  out_THD_ = out_.narrow(0, 0, row);
}

at::Tensor StepBatch::SampledRows(const at::Tensor& hidden_TD) const {
  if (rows_R_.size(0) == hidden_TD.size(0)) return hidden_TD;  // all are wanted: every sequence decodes
  return hidden_TD.index_select(0, rows_R_);
}

at::Tensor StepBatch::Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                          const at::Tensor& v_TKD, double scale, int64_t window_tokens) {
  if (own_kernel_) {
    PagedAttentionCpu(q_THD, k_TKD, v_TKD, cache_.keys(layer), cache_.values(layer), paged_, scale,
                      window_tokens, out_THD_, threads_);
  } else {
    PagedAttentionAten(q_THD, k_TKD, v_TKD, cache_.keys(layer), cache_.values(layer), paged_, scale,
                       window_tokens, out_THD_);
  }
  return out_THD_;
}

}  // namespace tramontane
