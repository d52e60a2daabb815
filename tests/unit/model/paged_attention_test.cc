#include "model/ops/paged_attention.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <numeric>
#include <random>

#include "model/packed_attention.h"

namespace tramontane {
namespace {

struct Shape {
  int64_t heads = 4, kv_heads = 2, dim = 32, block_tokens = 16, window = 0, blocks = 64;
  double scale = 0.2;
  at::ScalarType dtype = at::kFloat;
};

// Sequences of these lengths, their blocks scattered over the cache.
class Paged {
 public:
  Paged(const Shape& shape, const std::vector<int64_t>& lengths) : s_(shape), lengths_(lengths) {
    torch::manual_seed(3);
    const auto options = torch::TensorOptions().dtype(s_.dtype);
    for (int64_t length : lengths) {
      q_.push_back(torch::randn({length, s_.heads, s_.dim}, options));
      k_.push_back(torch::randn({length, s_.kv_heads, s_.dim}, options));
      v_.push_back(torch::randn({length, s_.kv_heads, s_.dim}, options));
      out_.push_back(torch::zeros({length, s_.heads, s_.dim}, options));
    }
    // What was never written must never be read.
    k_cache_ =
        torch::full(KeyCacheShape(s_.blocks, s_.kv_heads, s_.dim, s_.block_tokens), NAN, options);
    v_cache_ =
        torch::full(ValueCacheShape(s_.blocks, s_.kv_heads, s_.dim, s_.block_tokens), NAN, options);
    std::vector<int32_t> ids(s_.blocks);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(9));
    for (int64_t length : lengths) {
      const int64_t needed = (length + s_.block_tokens - 1) / s_.block_tokens;
      tables_.emplace_back(ids.end() - needed, ids.end());
      ids.resize(ids.size() - needed);
    }
  }

  // One step: rows [from, to) of each sequence listed.
  struct Piece {
    size_t sequence;
    int64_t from, to;
  };
  void Step(const std::vector<Piece>& pieces, int threads = 1, bool aten = false) {
    PagedBatch batch;
    batch.block_tokens = static_cast<int32_t>(s_.block_tokens);
    std::vector<at::Tensor> q, k, v;
    int32_t row = 0;
    for (const Piece& p : pieces) {
      batch.sequences.push_back({row, static_cast<int32_t>(p.to - p.from), p.from,
                                 static_cast<int32_t>(batch.block_tables.size())});
      batch.block_tables.insert(batch.block_tables.end(), tables_[p.sequence].begin(),
                                tables_[p.sequence].end());
      row += static_cast<int32_t>(p.to - p.from);
      q.push_back(q_[p.sequence].slice(0, p.from, p.to));
      k.push_back(k_[p.sequence].slice(0, p.from, p.to));
      v.push_back(v_[p.sequence].slice(0, p.from, p.to));
    }
    at::Tensor out = torch::zeros({row, s_.heads, s_.dim}, torch::TensorOptions().dtype(s_.dtype));
    if (aten) {
      PagedAttentionAten(torch::cat(q), torch::cat(k), torch::cat(v), k_cache_, v_cache_, batch,
                         s_.scale, s_.window, out);
    } else {
      PagedAttentionCpu(torch::cat(q), torch::cat(k), torch::cat(v), k_cache_, v_cache_, batch,
                        s_.scale, s_.window, out, threads);
    }
    for (size_t i = 0; i < pieces.size(); ++i) {
      const auto& sequence = batch.sequences[i];
      out_[pieces[i].sequence]
          .slice(0, pieces[i].from, pieces[i].to)
          .copy_(out.slice(0, sequence.first_row, sequence.first_row + sequence.num_rows));
    }
  }

  double WorstGapToPacked() {
    double worst = 0;
    for (size_t i = 0; i < lengths_.size(); ++i) {
      PackedAttention packed({0, lengths_[i]});
      const at::Tensor expected = packed.Run(0, q_[i], k_[i], v_[i], s_.scale, s_.window);
      const double gap = (expected - out_[i]).abs().max().item<double>();
      worst = std::isnan(gap) ? INFINITY : std::max(worst, gap);
    }
    return worst;
  }
  const at::Tensor& out(size_t i) const { return out_[i]; }

 private:
  Shape s_;
  std::vector<int64_t> lengths_;
  std::vector<at::Tensor> q_, k_, v_, out_;
  at::Tensor k_cache_, v_cache_;
  std::vector<std::vector<int32_t>> tables_;
};

// Prefill in chunks of different sizes, then token by token, sequences mixed.
void RunMixed(Paged& paged, int threads, bool aten) {
  paged.Step({{0, 0, 7}, {1, 0, 1}}, threads, aten);
  paged.Step({{1, 1, 30}, {0, 7, 21}, {2, 0, 3}}, threads, aten);
  paged.Step({{2, 3, 4}, {1, 30, 32}, {0, 21, 40}}, threads, aten);
  for (int64_t t = 40; t < 50; ++t) paged.Step({{0, t, t + 1}, {2, t - 36, t - 35}}, threads, aten);
  paged.Step({{1, 32, 75}}, threads, aten);
}

TEST(PagedAttention, EqualsPackedForMixedSteps) {
  for (int64_t block_tokens : {16, 4, 32, 5}) {
    for (int64_t dim : {32, 20, 64, 128}) {
      for (int64_t window : {0, 6}) {
        for (int64_t kv_heads : {1, 2, 4}) {
          Shape shape;
          shape.block_tokens = block_tokens;
          shape.dim = dim;
          shape.window = window;
          shape.kv_heads = kv_heads;
          Paged paged(shape, {50, 75, 14});
          RunMixed(paged, 1, false);
          EXPECT_LT(paged.WorstGapToPacked(), 1e-5)
              << "block " << block_tokens << " dim " << dim << " window " << window << " kv heads "
              << kv_heads;
        }
      }
    }
  }
}

TEST(PagedAttention, ThreadsAndFloat64AndOperatorsAgree) {
  Shape shape;
  Paged one(shape, {50, 75, 14}), two(shape, {50, 75, 14});
  RunMixed(one, 1, false);
  RunMixed(two, 2, false);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(torch::equal(one.out(i), two.out(i)));
  shape.dtype = at::kDouble;
  shape.window = 9;
  Paged wide(shape, {50, 75, 14}), aten(shape, {50, 75, 14});
  RunMixed(wide, 1, false);
  EXPECT_LT(wide.WorstGapToPacked(), 1e-12);
  // The operator path masks by adding, so its cache must not hold NaN: it reads only written
  // blocks.
  RunMixed(aten, 1, true);
  EXPECT_LT(aten.WorstGapToPacked(), 1e-12);
}

TEST(PagedAttention, ResultsDoNotDependOnTheRestOfTheBatch) {
  Shape shape;
  Paged alone(shape, {40, 40, 40}), together(shape, {40, 40, 40});
  alone.Step({{0, 0, 39}});
  alone.Step({{0, 39, 40}});
  together.Step({{1, 0, 39}, {0, 0, 39}, {2, 0, 12}});
  together.Step({{2, 12, 30}, {1, 39, 40}, {0, 39, 40}});
  EXPECT_TRUE(torch::equal(alone.out(0), together.out(0)));
}

TEST(PagedAttention, RefusesTablesOutsideTheCache) {
  at::Tensor q = torch::randn({1, 4, 32}), k = torch::randn({1, 2, 32}),
             out = torch::zeros({1, 4, 32});
  at::Tensor k_cache = torch::zeros(KeyCacheShape(2, 2, 32, 16)),
             v_cache = torch::zeros(ValueCacheShape(2, 2, 32, 16));
  PagedBatch batch;
  batch.sequences.push_back({0, 1, 0, 0});
  batch.block_tables = {2};
  EXPECT_THROW(PagedAttentionCpu(q, k, k, k_cache, v_cache, batch, 1, 0, out), c10::Error);
  batch.block_tables = {1};
  batch.sequences[0].first_position = 16;
  EXPECT_THROW(PagedAttentionCpu(q, k, k, k_cache, v_cache, batch, 1, 0, out), c10::Error);
}

}  // namespace
}  // namespace tramontane
