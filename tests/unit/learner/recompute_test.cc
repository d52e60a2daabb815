// Activation checkpointing: the same gradients, from less memory.
#include "model/recompute.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <torch/csrc/autograd/autograd.h>

#include "learner_fixture.h"
#include "trainer/learner/gradient_hooks.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::Sampler;
using testing::TinyModel;
using testing::TinyRun;

// What is allocated now; what was freed does not count, wherever it lies.
int64_t BytesInUse() {
  const struct mallinfo2 info = ::mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

at::Tensor Loss(Transformer& model, int64_t tokens, Attention& attention) {
  const at::Tensor ids = at::arange(tokens, at::kLong).remainder(model.config().vocab_size);
  return model.Forward(ids, at::arange(tokens, at::kLong).remainder(60), attention).square().mean();
}

TEST(RecomputeTest, GradientsAreTheSameBits) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    auto model = TinyModel(3, dtype);
    std::vector<at::Tensor> kept, recomputed;
    for (const bool recompute : {false, true}) {
      model->set_recompute_layers(recompute);
      PackedAttention attention({0, 20, 50});
      (recompute ? recomputed : kept) = torch::autograd::grad(
          {Loss(*model, 50, attention)}, model->parameters(), {}, false, false, true);
    }
    for (size_t i = 0; i < kept.size(); ++i) {
      ASSERT_TRUE(kept[i].defined() && recomputed[i].defined()) << i;
      EXPECT_TRUE(at::equal(kept[i], recomputed[i])) << i << " " << dtype;
      EXPECT_GT(kept[i].abs().max().item<double>(), 0) << i;
    }
  }
}

TEST(RecomputeTest, HooksTakeEachGradientOnce) {
  auto model = TinyModel(3);
  for (at::Tensor& parameter : model->parameters()) parameter.set_requires_grad(true);
  const GradientHooks hooks(model->parameters());
  std::vector<at::Tensor> kept, recomputed;
  for (const bool recompute : {false, true}) {
    model->set_recompute_layers(recompute);
    std::vector<at::Tensor>& taken = recompute ? recomputed : kept;
    taken.resize(model->parameters().size());
    PackedAttention attention({0, 50});
    hooks.Backward(Loss(*model, 50, attention), [&](size_t i, const at::Tensor& gradient) {
      EXPECT_FALSE(taken[i].defined()) << "parameter " << i << " came twice";
      taken[i] = gradient.clone();
    });
  }
  for (size_t i = 0; i < kept.size(); ++i) {
    ASSERT_TRUE(kept[i].defined() && recomputed[i].defined()) << i;
    EXPECT_TRUE(at::equal(kept[i], recomputed[i])) << i;
  }
}

TEST(RecomputeTest, WhatIsHeldForTheBackwardPassIsLessThanHalf) {
  ModelConfig config = TinyModel(1)->config();
  config.source["num_hidden_layers"] = 8;
  auto model = std::make_shared<Transformer>(ParseModelConfig(config.source).value());
  model->InitRandom(1);
  int64_t held[2] = {};
  for (const bool recompute : {true, false}) {
    model->set_recompute_layers(recompute);
    std::vector<int64_t> offsets = {0};
    while (offsets.back() < 60000) offsets.push_back(offsets.back() + 60);
    PackedAttention attention(offsets);
    const int64_t before = BytesInUse();
    const at::Tensor loss = Loss(*model, 60000, attention);
    held[recompute] = BytesInUse() - before;
    torch::autograd::grad({loss}, model->parameters(), {}, false, false, true);
  }
  EXPECT_LT(2 * held[true], held[false]);
  EXPECT_GT(held[false], int64_t{100} << 20) << "of a size that can be seen";
}

TEST(RecomputeTest, ALearnersStepsAreTheSameBits) {
  auto model = TinyModel(1);
  Sampler sampler(*model, 7);
  const std::vector<Group> groups = sampler.Groups(4, 0);
  std::vector<at::Tensor> weights;
  for (const bool recompute : {false, true}) {
    RunConfig config = TinyRun();
    config.algorithm =
        AlgorithmFromJson(Json::parse(R"({"advantage": {"baseline": "value", "scale": "none"},
                                          "auxiliary": {"value_coefficient": 1}})"))
            .value();
    config.trainer.threads = 2;
    config.trainer.activation_checkpointing = recompute;
    MetricsRegistry metrics;
    auto trained = TinyModel(1);
    auto learner = Learner::Create(config, trained, metrics).value();
    for (int64_t step = 1; step <= 2; ++step) ASSERT_TRUE(learner->Step(groups, step).ok());
    weights.push_back(Flat(*trained));
  }
  EXPECT_TRUE(at::equal(weights[0], weights[1]));
}

}  // namespace
}  // namespace tramontane
