#include "model/ops/paged_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "model/ops/cpu/kernels.h"

namespace tramontane {

namespace {

// Fills what does not depend on the sequence.
template <typename T>
kernels::PagedRows<T> CommonRows(const at::Tensor& q_THD, const at::Tensor& k_TKD,
                                 const at::Tensor& v_TKD, at::Tensor& k_cache, at::Tensor& v_cache,
                                 const PagedBatch& batch, double scale, int64_t window_tokens) {
  kernels::PagedRows<T> rows;
  rows.block_tokens = batch.block_tokens;
  rows.heads = q_THD.size(1);
  rows.kv_heads = k_TKD.size(1);
  rows.head_dim = q_THD.size(2);
  rows.q_stride = q_THD.stride(0);
  rows.k_stride = k_TKD.stride(0);
  rows.v_stride = v_TKD.stride(0);
  rows.k_cache = k_cache.mutable_data_ptr<T>();
  rows.v_cache = v_cache.mutable_data_ptr<T>();
  rows.scale = scale;
  rows.window = window_tokens;
  return rows;
}

template <typename T>
void Run(const at::Tensor& q_THD, const at::Tensor& k_TKD, const at::Tensor& v_TKD,
         at::Tensor& k_cache, at::Tensor& v_cache, const PagedBatch& batch, double scale,
         int64_t window_tokens, at::Tensor& out_THD, int threads) {
  const auto& table = kernels::Kernels<T>();
  const auto common =
      CommonRows<T>(q_THD, k_TKD, v_TKD, k_cache, v_cache, batch, scale, window_tokens);
  const T* q = q_THD.const_data_ptr<T>();
  const T* k = k_TKD.const_data_ptr<T>();
  const T* v = v_TKD.const_data_ptr<T>();
  T* out = out_THD.mutable_data_ptr<T>();
  const auto of_sequence = [&](const PagedSequence& sequence) {
    auto rows = common;
    rows.rows = sequence.num_rows;
    rows.first_position = sequence.first_position;
    rows.block_table = batch.block_tables.data() + sequence.table_begin;
    rows.q = q + sequence.first_row * common.q_stride;
    rows.k = k + sequence.first_row * common.k_stride;
    rows.v = v + sequence.first_row * common.v_stride;
    rows.out = out + sequence.first_row * common.heads * common.head_dim;
    return rows;
  };
  // All writes come first: a sequence may share blocks with another one of the same step.
  for (const PagedSequence& sequence : batch.sequences) table.paged_write(of_sequence(sequence));
  const auto attend = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) table.paged_attend(of_sequence(batch.sequences[i]));
  };
  const int64_t count = static_cast<int64_t>(batch.sequences.size());
  if (threads <= 1 || count < 2) {
    attend(0, count);
  } else {
    at::parallel_for(0, count, (count + threads - 1) / threads, attend);
  }
}

void CheckArguments(const at::Tensor& q_THD, const at::Tensor& k_TKD, const at::Tensor& v_TKD,
                    const at::Tensor& k_cache, const at::Tensor& v_cache, const PagedBatch& batch,
                    const at::Tensor& out_THD) {
  const auto packed_heads = [](const at::Tensor& t) {
    return t.dim() == 3 && t.stride(2) == 1 && t.stride(1) == t.size(2);
  };
  TORCH_CHECK(packed_heads(q_THD) && packed_heads(k_TKD) && packed_heads(v_TKD),
              "paged attention: heads of a row must be contiguous");
  TORCH_CHECK(out_THD.is_contiguous() && out_THD.sizes() == q_THD.sizes(),
              "paged attention: output must be contiguous and shaped like q");
  const int64_t kv_heads = k_TKD.size(1), dim = q_THD.size(2);
  TORCH_CHECK(q_THD.size(1) % kv_heads == 0, "paged attention: heads must divide by kv heads");
  TORCH_CHECK(
      k_cache.is_contiguous() && v_cache.is_contiguous() &&
          k_cache.sizes() ==
              at::IntArrayRef(KeyCacheShape(k_cache.size(0), kv_heads, dim, batch.block_tokens)) &&
          v_cache.sizes() ==
              at::IntArrayRef(ValueCacheShape(k_cache.size(0), kv_heads, dim, batch.block_tokens)),
      "paged attention: cache shapes do not match");
  const auto dtype = q_THD.scalar_type();
  TORCH_CHECK(k_TKD.scalar_type() == dtype && v_TKD.scalar_type() == dtype &&
                  k_cache.scalar_type() == dtype && v_cache.scalar_type() == dtype &&
                  out_THD.scalar_type() == dtype,
              "paged attention: mixed dtypes");
  const int64_t tokens = q_THD.size(0), blocks = k_cache.size(0);
  for (const PagedSequence& s : batch.sequences) {
    const int64_t needed = (s.first_position + s.num_rows - 1) / batch.block_tokens + 1;
    TORCH_CHECK(s.num_rows > 0 && s.first_row >= 0 && s.first_row + s.num_rows <= tokens &&
                    s.first_position >= 0 && s.table_begin >= 0 &&
                    s.table_begin + needed <= static_cast<int64_t>(batch.block_tables.size()),
                "paged attention: a sequence lies outside the batch or its block table");
    for (int64_t b = 0; b < needed; ++b) {
      const int32_t id = batch.block_tables[s.table_begin + b];
      TORCH_CHECK(id >= 0 && id < blocks, "paged attention: block id outside the cache");
    }
  }
}

}  // namespace

std::vector<int64_t> KeyCacheShape(int64_t blocks, int64_t kv_heads, int64_t head_dim,
                                   int64_t block_tokens) {
  return {blocks, kv_heads, head_dim, block_tokens};
}

std::vector<int64_t> ValueCacheShape(int64_t blocks, int64_t kv_heads, int64_t head_dim,
                                     int64_t block_tokens) {
  return {blocks, kv_heads, block_tokens, head_dim};
}

void PagedAttentionCpu(const at::Tensor& q_THD, const at::Tensor& k_TKD, const at::Tensor& v_TKD,
                       at::Tensor& k_cache, at::Tensor& v_cache, const PagedBatch& batch,
                       double scale, int64_t window_tokens, at::Tensor& out_THD, int threads) {
  CheckArguments(q_THD, k_TKD, v_TKD, k_cache, v_cache, batch, out_THD);
  const auto run = q_THD.scalar_type() == at::kDouble ? Run<double> : Run<float>;
  TORCH_CHECK(q_THD.scalar_type() == at::kDouble || q_THD.scalar_type() == at::kFloat,
              "paged attention on the CPU: float32 or float64");
  run(q_THD, k_TKD, v_TKD, k_cache, v_cache, batch, scale, window_tokens, out_THD, threads);
}

void PagedAttentionAten(const at::Tensor& q_THD, const at::Tensor& k_TKD, const at::Tensor& v_TKD,
                        at::Tensor& k_cache, at::Tensor& v_cache, const PagedBatch& batch,
                        double scale, int64_t window_tokens, at::Tensor& out_THD) {
  CheckArguments(q_THD, k_TKD, v_TKD, k_cache, v_cache, batch, out_THD);
  const int64_t bt = batch.block_tokens;
  const auto device = q_THD.device();
  const auto table_of = [&](const PagedSequence& s) {
    const int64_t blocks = (s.first_position + s.num_rows - 1) / bt + 1;
    at::Tensor table = at::empty({blocks}, at::kLong);
    for (int64_t b = 0; b < blocks; ++b) {
      table.mutable_data_ptr<int64_t>()[b] = batch.block_tables[s.table_begin + b];
    }
    return table.to(device);
  };
  const auto positions_of = [&](const PagedSequence& s) {
    return at::arange(s.first_position, s.first_position + s.num_rows,
                      at::TensorOptions().dtype(at::kLong).device(device));
  };
  for (const PagedSequence& s : batch.sequences) {
    const at::Tensor positions = positions_of(s);
    const at::Tensor block = table_of(s).index_select(0, positions.div(bt, "floor"));
    const at::Tensor slot = positions.remainder(bt);
    // k_cache[block, :, :, slot] = k, v_cache[block, :, slot] = v; both index as [rows, kv heads,
    // dim].
    k_cache.permute({0, 3, 1, 2})
        .index_put_({block, slot}, k_TKD.narrow(0, s.first_row, s.num_rows));
    v_cache.permute({0, 2, 1, 3})
        .index_put_({block, slot}, v_TKD.narrow(0, s.first_row, s.num_rows));
  }
  for (const PagedSequence& s : batch.sequences) {
    const at::Tensor table = table_of(s);
    const int64_t keys = s.first_position + s.num_rows;
    const auto gather = [&](const at::Tensor& cache_BTKD) {  // -> [1, kv heads, keys, dim]
      return cache_BTKD.index_select(0, table)
          .flatten(0, 1)
          .narrow(0, 0, keys)
          .transpose(0, 1)
          .unsqueeze(0);
    };
    const at::Tensor distance =
        positions_of(s).unsqueeze(1) -
        at::arange(keys, at::TensorOptions().dtype(at::kLong).device(device)).unsqueeze(0);
    at::Tensor mask = distance.ge(0);
    if (window_tokens > 0) mask = mask.logical_and(distance.lt(window_tokens));
    const at::Tensor q = q_THD.narrow(0, s.first_row, s.num_rows).transpose(0, 1).unsqueeze(0);
    const at::Tensor out = at::scaled_dot_product_attention(
        q, gather(k_cache.permute({0, 3, 1, 2})), gather(v_cache.permute({0, 2, 1, 3})), mask, 0.0,
        /*is_causal=*/false, scale, /*enable_gqa=*/true);
    out_THD.narrow(0, s.first_row, s.num_rows).copy_(out.squeeze(0).transpose(0, 1));
  }
}

}  // namespace tramontane
