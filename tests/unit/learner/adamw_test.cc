#include "trainer/learner/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

namespace tramontane {
namespace {

std::vector<at::Tensor> Parameters(at::ScalarType dtype) {
  at::manual_seed(1);
  return {at::randn({5, 7}, at::kDouble).to(dtype), at::randn({300}, at::kDouble).to(dtype)};
}

TEST(AdamWTest, FollowsTorchOptimStepByStep) {
  const std::vector<at::Tensor> parameters = Parameters(at::kDouble);
  std::vector<at::Tensor> reference;
  for (const at::Tensor& p : parameters) reference.push_back(p.clone().set_requires_grad(true));
  torch::optim::AdamW expected(
      reference, torch::optim::AdamWOptions(0.03).betas({0.8, 0.95}).eps(1e-6).weight_decay(0.1));
  AdamW optimiser(parameters, {0.8, 0.95, 1e-6});
  for (int step = 0; step < 10; ++step) {
    std::vector<at::Tensor> gradients;
    for (size_t i = 0; i < parameters.size(); ++i) {
      gradients.push_back(at::randn_like(parameters[i]));
      reference[i].mutable_grad() = gradients[i].clone();
    }
    optimiser.Step(gradients, 0.03, 0.1);
    expected.step();
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_LE((parameters[i] - reference[i].detach()).abs().max().item<double>(), 1e-14) << step;
    }
  }
  EXPECT_EQ(optimiser.updates(), 10);
}

TEST(AdamWTest, ResetForgetsAndRestoreContinuesBitForBit) {
  const std::vector<at::Tensor> parameters = Parameters(at::kFloat);
  AdamW optimiser(parameters, {});
  const std::vector<at::Tensor> gradients = {at::randn({5, 7}), at::randn({300})};
  optimiser.Step(gradients, 0.01, 0);
  const at::Tensor first = optimiser.first_moment().clone(), second = optimiser.second_moment().clone();
  const at::Tensor before = parameters[0].clone();
  optimiser.Step(gradients, 0.01, 0);
  const at::Tensor after = parameters[0].clone();

  parameters[0].copy_(before);
  optimiser.Reset();
  EXPECT_EQ(optimiser.updates(), 0);
  EXPECT_EQ(optimiser.first_moment().abs().max().item<float>(), 0);
  ASSERT_TRUE(optimiser.Restore(first, second, 1).ok());
  optimiser.Step(gradients, 0.01, 0);
  EXPECT_TRUE(at::equal(parameters[0], after));
}

TEST(AdamWTest, RestoreRefusesOtherShapes) {
  AdamW optimiser(Parameters(at::kFloat), {});
  EXPECT_EQ(optimiser.Restore(at::zeros({3}), at::zeros({3}), 1).code(), absl::StatusCode::kInvalidArgument);
  const at::Tensor doubles = at::zeros({335}, at::kDouble);
  EXPECT_EQ(optimiser.Restore(doubles, doubles, 1).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tramontane
