#include "model/ops/logprob.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

namespace tramontane {
namespace {

TEST(ChunkedLogprob, EqualsLogSoftmaxForAnyChunk) {
  torch::manual_seed(1);
  const at::Tensor hidden = torch::randn({23, 8}), weight = torch::randn({45, 8});
  const at::Tensor targets = torch::randint(45, {23}, torch::kLong);
  const at::Tensor logp = (torch::matmul(hidden, weight.t()) / 1.3).log_softmax(1);
  const at::Tensor chosen = logp.gather(1, targets.unsqueeze(1)).squeeze(1);
  const at::Tensor entropy = -(logp.exp() * logp).sum(1);
  for (int64_t chunk : {1, 5, 23, 1000}) {
    const LogprobResult r = ChunkedLogprob(hidden, weight, targets, 1.3, true, chunk);
    EXPECT_TRUE(torch::allclose(r.logprob, chosen, 1e-5, 1e-5));
    EXPECT_TRUE(torch::allclose(r.entropy, entropy, 1e-5, 1e-5));
  }
  EXPECT_FALSE(ChunkedLogprob(hidden, weight, targets, 1.3, false).entropy.defined());
}

TEST(ChunkedLogprob, SurvivesHugeLogits) {
  const at::Tensor hidden = torch::tensor({{1e4f, -1e4f}}), weight = torch::eye(2);
  const LogprobResult r = ChunkedLogprob(hidden, weight, torch::tensor({int64_t{0}}), 1.0, true);
  EXPECT_EQ(r.logprob.item<float>(), 0);
  EXPECT_EQ(r.entropy.item<float>(), 0);
}

TEST(ChunkedLogprob, WidensBfloat16BeforeTheProduct) {
  torch::manual_seed(2);
  const at::Tensor hidden = torch::randn({9, 16}).to(torch::kBFloat16).requires_grad_(true);
  const at::Tensor weight = torch::randn({12, 16}).to(torch::kBFloat16).requires_grad_(true);
  const at::Tensor targets = torch::randint(12, {9}, torch::kLong);
  const LogprobResult r = ChunkedLogprob(hidden, weight, targets, 1.0, false, 4);
  const at::Tensor expected = torch::matmul(hidden.to(torch::kFloat), weight.to(torch::kFloat).t())
                                  .log_softmax(1)
                                  .gather(1, targets.unsqueeze(1))
                                  .squeeze(1);
  EXPECT_EQ(r.logprob.scalar_type(), torch::kFloat);
  EXPECT_TRUE(torch::allclose(r.logprob, expected, 1e-5, 1e-5));
  const auto grads = torch::autograd::grad({r.logprob.sum()}, {hidden, weight});
  EXPECT_EQ(grads[0].scalar_type(), torch::kBFloat16);
  EXPECT_EQ(grads[1].scalar_type(), torch::kBFloat16);
}

TEST(ChunkedLogprob, RefusesTargetsOutsideTheVocabulary) {
  const at::Tensor hidden = torch::randn({1, 4}), weight = torch::randn({3, 4});
  EXPECT_THROW(ChunkedLogprob(hidden, weight, torch::tensor({int64_t{3}}), 1.0, false), c10::Error);
  EXPECT_THROW(ChunkedLogprob(hidden, weight, torch::tensor({int64_t{0}}), 0.0, false), c10::Error);
}

}  // namespace
}  // namespace tramontane
