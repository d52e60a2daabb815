#include "model/ops/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace tramontane::kernels {
namespace {

std::vector<float> Random(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> x(n);
  for (float& v : x) v = normal(engine);
  return x;
}

// Every instruction set that this machine runs.
class EveryIsa : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const KernelTable<float>* tables[3];
    const int n = RunnableKernels<float>(tables);
    if (GetParam() >= n) GTEST_SKIP() << "this machine runs " << n << " instruction sets";
    table_ = tables[GetParam()];
  }
  const KernelTable<float>* table_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Isa, EveryIsa, ::testing::Values(0, 1, 2));

TEST_P(EveryIsa, ExponentialIsWithinTwoUlp) {
  std::vector<float> x;
  for (float v = -87.3f; v < 88.7f; v += 0.00173f) x.push_back(v);
  std::vector<float> y(x.size());
  table_->exp(static_cast<int64_t>(x.size()), x.data(), y.data());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    const float near = static_cast<float>(exact);
    const double ulp = std::nextafter(near, std::numeric_limits<float>::infinity()) - near;
    worst = std::max(worst, std::abs(y[i] - exact) / ulp);
  }
  EXPECT_LE(worst, 2.0);
}

TEST_P(EveryIsa, ExponentialHandlesTheEnds) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-inf, -1000, -88, 0, 88.7f, 89, inf, std::nanf("")};
  std::vector<float> y(x.size());
  table_->exp(8, x.data(), y.data());
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], 1);
  EXPECT_NEAR(y[4] / std::exp(88.7f), 1, 1e-6);
  EXPECT_EQ(y[5], inf);
  EXPECT_EQ(y[6], inf);
  EXPECT_TRUE(std::isnan(y[7]));
}

// Rows of queries, keys and values side by side, `stride` apart, in the segments that offsets bound.
PackedHeads<float> HeadsIn(const std::vector<float>& x, const std::vector<int64_t>& offsets,
                           int64_t heads, int64_t kv_heads, int64_t dim, int64_t stride) {
  PackedHeads<float> args;
  args.segments = static_cast<int64_t>(offsets.size()) - 1;
  args.offsets = offsets.data();
  args.heads = heads;
  args.kv_heads = kv_heads;
  args.head_dim = dim;
  args.q = x.data();
  args.k = x.data() + heads * dim;
  args.v = x.data() + (heads + kv_heads) * dim;
  args.q_stride = args.k_stride = args.v_stride = stride;
  return args;
}

// Against float64 by hand, with sizes that are and are not whole vectors.
TEST_P(EveryIsa, PackedAttentionMatchesADirectSum) {
  for (const int64_t dim : {4, 16, 30, 32, 64}) {
    for (const int64_t window : {0, 5}) {
      const std::vector<int64_t> offsets = {0, 1, 1, 24, 61};
      const int64_t rows = 61, heads = 4, kv_heads = 2, stride = (heads + 2 * kv_heads) * dim + 3;
      const auto x = Random(static_cast<size_t>(rows * stride), 7);
      PackedHeads<float> args = HeadsIn(x, offsets, heads, kv_heads, dim, stride);
      args.scale = 0.3;
      args.window = window;
      std::vector<float> out(static_cast<size_t>(rows * heads * dim)),
          lse(static_cast<size_t>(rows * heads));
      table_->packed_attention(args, out.data(), lse.data());
      for (size_t s = 0; s + 1 < offsets.size(); ++s) {
        for (int64_t i = offsets[s]; i < offsets[s + 1]; ++i) {
          const int64_t first = window > 0 ? std::max(offsets[s], i - window + 1) : offsets[s];
          for (int64_t h = 0; h < heads; ++h) {
            std::vector<double> p;
            double sum = 0;
            for (int64_t j = first; j <= i; ++j) {
              double dot = 0;
              for (int64_t d = 0; d < dim; ++d) {
                dot += args.q[i * stride + h * dim + d] *
                       static_cast<double>(args.k[j * stride + h / 2 * dim + d]);
              }
              p.push_back(std::exp(0.3 * dot));
              sum += p.back();
            }
            ASSERT_NEAR(lse[i * heads + h], std::log(sum), 2e-5);
            for (int64_t d = 0; d < dim; ++d) {
              double expected = 0;
              for (int64_t j = first; j <= i; ++j)
                expected += p[j - first] / sum * args.v[j * stride + h / 2 * dim + d];
              ASSERT_NEAR(out[(i * heads + h) * dim + d], expected, 2e-5)
                  << "isa " << table_->isa << " dim " << dim << " row " << i << " head " << h;
            }
          }
        }
      }
    }
  }
}

// A beginning of every length (none, too) that three continue (one by nothing) as three sequences.
TEST_P(EveryIsa, SegmentsThatContinueOneAreTheSequencesWithIt) {
  const int64_t heads = 4, kv_heads = 2, dim = 18, width = (heads + 2 * kv_heads) * dim;
  const auto run = [&](const std::vector<float>& x, const std::vector<int64_t>& offsets,
                       const std::vector<int64_t>& continues, int64_t window,
                       const std::vector<float>& d_out, std::vector<float>& grad) {
    const auto rows = static_cast<size_t>(offsets.back());
    PackedHeads<float> args = HeadsIn(x, offsets, heads, kv_heads, dim, width);
    args.continues = continues.empty() ? nullptr : continues.data();
    args.scale = 0.4;
    args.window = window;
    std::vector<float> out(rows * heads * dim), lse(rows * heads);
    table_->packed_attention(args, out.data(), lse.data());
    grad.assign(rows * width, std::nanf(""));
    PackedHeadsGrad<float> g;
    g.out = out.data();
    g.d_out = d_out.data();
    g.lse = lse.data();
    g.d_q = grad.data();
    g.d_k = grad.data() + heads * dim;
    g.d_v = grad.data() + (heads + kv_heads) * dim;
    g.dq_stride = g.dk_stride = g.dv_stride = width;
    table_->packed_attention_backward(args, g);
    return out;
  };
  for (const int64_t begin : {0, 1, 5, 17, 40}) {
    for (const int64_t window : {0, 6}) {
      // A sequence by itself before the beginning, and one behind.
      const std::vector<int64_t> own = {23, 0, 7};
      const std::vector<int64_t> shared = {0,          3,          3 + begin, 26 + begin,
                                           26 + begin, 33 + begin, 42 + begin};
      const std::vector<float> x = Random(static_cast<size_t>(shared.back() * width), 5);
      std::vector<float> d_out = Random(static_cast<size_t>(shared.back() * heads * dim), 6);
      std::vector<int64_t> apart = {0, 3}, from = {0, 1, 2};  // rows of x
      for (size_t s = 0; s < own.size(); ++s) {
        for (int64_t i = 0; i < begin; ++i) from.push_back(3 + i);
        for (int64_t i = 0; i < own[s]; ++i) from.push_back(shared[s + 2] + i);
        apart.push_back(static_cast<int64_t>(from.size()));
      }
      for (int64_t i = shared[5]; i < shared[6]; ++i) from.push_back(i);
      apart.push_back(static_cast<int64_t>(from.size()));
      std::vector<float> x_apart, d_apart;
      std::vector<float> seen(static_cast<size_t>(shared.back()), 0);
      for (int64_t row : from) {
        x_apart.insert(x_apart.end(), x.begin() + row * width, x.begin() + (row + 1) * width);
        for (int64_t c = 0; c < heads * dim; ++c)  // what the first copy does not have
          d_apart.push_back(seen[row] > 0 ? 0 : d_out[row * heads * dim + c]);
        seen[row] = 1;
      }
      std::vector<float> grad, grad_apart;
      const auto out = run(x, shared, {0, 0, 1, 1, 1, 0}, window, d_out, grad);
      const auto out_apart = run(x_apart, apart, {}, window, d_apart, grad_apart);
      std::vector<float> sums(grad.size(), 0);
      for (size_t n = 0; n < from.size(); ++n) {
        for (int64_t c = 0; c < heads * dim; ++c)
          ASSERT_NEAR(out_apart[n * heads * dim + c], out[from[n] * heads * dim + c], 1e-5);
        for (int64_t c = 0; c < width; ++c) sums[from[n] * width + c] += grad_apart[n * width + c];
      }
      for (size_t c = 0; c < sums.size(); ++c)
        ASSERT_NEAR(grad[c], sums[c], 3e-5) << begin << " " << window << " " << c;
    }
  }
}

TEST_P(EveryIsa, NotANumberIsNotHidden) {
  std::vector<float> logits = Random(40, 3), logprob(1), lse(1), entropy(1);
  logits[37] = std::nanf("");
  const int64_t target = 2;
  table_->log_softmax_gather(1, 40, logits.data(), 1.0, &target, logprob.data(), lse.data(),
                             entropy.data());
  EXPECT_TRUE(std::isnan(logprob[0]));
  EXPECT_TRUE(std::isnan(entropy[0]));

  std::vector<float> gate_up(8, 1.0f), y(4);
  gate_up[1] = std::nanf("");
  table_->silu_mul(1, 4, gate_up.data(), y.data());
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_FALSE(std::isnan(y[0]));
}

}  // namespace
}  // namespace tramontane::kernels
