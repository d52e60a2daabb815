// The length predictor: its mathematics against values of mpmath, its file, what is refused.
#include "model/length_predictor.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "model/safetensors.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

ModelConfig Config(int64_t vocab = 12, int64_t hidden = 8) {
  return ParseModelConfig({{"model_type", "qwen3"},
                           {"vocab_size", vocab},
                           {"hidden_size", hidden},
                           {"intermediate_size", 16},
                           {"num_hidden_layers", 1},
                           {"num_attention_heads", 2},
                           {"num_key_value_heads", 1},
                           {"head_dim", 4},
                           {"max_position_embeddings", 64},
                           {"rms_norm_eps", 1e-6},
                           {"rope_theta", 10000.0},
                           {"tie_word_embeddings", true},
                           {"eos_token_id", 0}})
      .value();
}

LengthGammas Gammas(double shape, double rate) {
  return {at::tensor({shape}, at::kFloat), at::tensor({rate}, at::kFloat)};
}

double Weight(double shape, double rate, double remaining) {
  return BudgetWeights(Gammas(shape, rate), remaining)[0].item<double>();
}

TEST(LengthPredictor, WeightsAreTheRegularisedIncompleteGammaFunction) {
  // shape, rate, remaining, P(shape, rate·log(remaining + 1)) by mpmath.
  for (const auto& [shape, rate, remaining, expected] :
       {std::array<double, 4>{20, 10, 7, 0.59859750136785},
        {20, 10, 1, 3.88793192027486e-5},
        {40, 12, 30, 0.595491025453567},
        {14, 20, 1, 0.52095766041159},
        {15, 20, 1, 0.415040061117488}})
    EXPECT_NEAR(Weight(shape, rate, remaining), expected, 2e-5 * expected + 1e-8)
        << shape << " " << rate << " " << remaining;
  // More room never counts for less.
  double before = 0;
  for (int remaining = 1; remaining < 500; ++remaining) {
    const double now = Weight(40, 12, remaining);
    EXPECT_GE(now, before) << remaining;
    before = now;
  }
  EXPECT_NEAR(before, 1, 1e-3);
}

TEST(LengthPredictor, PredictionsThatAreNotSureCountForNothing) {
  EXPECT_GT(Weight(20, 10, 100), 0.9);
  EXPECT_EQ(Weight(20, 9.99, 100), 0);    // the rate
  EXPECT_EQ(Weight(1, 10, 100), 0);       // the shape
  EXPECT_EQ(Weight(13.8, 20, 100), 0);    // e^(12.8 / 20) − 1 = 0.896 tokens
  EXPECT_GT(Weight(13.9, 20, 100), 0.9);  // 0.906
}

TEST(LengthPredictor, TheLossIsTheGammasDensity) {
  const at::Tensor lengths = at::tensor({1.0, 2.0, 30.0, 4000.0}, at::kDouble);
  const LengthGammas gammas = {at::tensor({0.7, 5.0, 40.0, 80.0}, at::kDouble),
                               at::tensor({0.5, 4.0, 12.0, 9.0}, at::kDouble)};
  const at::Tensor nll = LengthNll(gammas, lengths);
  for (int i = 0; i < 4; ++i) {
    const double a = gammas.shape[i].item<double>(), b = gammas.rate[i].item<double>();
    const double x = std::log(lengths[i].item<double>() + 1);
    const double density = std::pow(b, a) / std::tgamma(a) * std::pow(x, a - 1) * std::exp(-b * x);
    EXPECT_NEAR(nll[i].item<double>(), -std::log(density), 1e-9) << i;
  }
}

TEST(LengthPredictor, OneTokenOfARowIsOneOfAll) {
  const LengthPredictor predictor(Config());
  for (const auto& [name, tensor] : predictor.Names()) at::Tensor(tensor).normal_();
  const at::Tensor hidden_RD = at::randn({5, 8}),
                   tokens_R = at::tensor({3, 0, 11, 3, 7}, at::kLong);
  const LengthGammas all = predictor.All(hidden_RD), some = predictor.Of(hidden_RD, tokens_R);
  const at::Tensor at_R1 = tokens_R.unsqueeze(1);
  EXPECT_TRUE(at::allclose(some.shape, all.shape.gather(1, at_R1).squeeze(1)));
  EXPECT_TRUE(at::allclose(some.rate, all.rate.gather(1, at_R1).squeeze(1)));
  EXPECT_TRUE(all.shape.gt(0).all().item<bool>());
}

class LengthPredictorFile : public ::testing::Test {
 protected:
  std::string Refusal(const ModelConfig& config) const {
    const auto loaded = LengthPredictor::Load(dir_, config);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << loaded.status();
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("length_predictor.safetensors"));
    return std::string(loaded.status().message());
  }

  const TempDir temp_;
  const std::string dir_ = temp_.path();
};

TEST_F(LengthPredictorFile, GivesBackEveryBit) {
  const LengthPredictor saved(Config());
  for (const auto& [name, tensor] : saved.Names()) at::Tensor(tensor).normal_();
  ASSERT_TRUE(saved.Save(dir_).ok());
  const auto loaded = LengthPredictor::Load(dir_, Config());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto expected = saved.Names(), got = (*loaded)->Names();
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(at::equal(expected[i].second, got[i].second)) << expected[i].first;
}

TEST_F(LengthPredictorFile, WhatIsNotThisModelsIsRefusedByName) {
  EXPECT_TRUE(absl::IsNotFound(LengthPredictor::Load(dir_, Config()).status()));
  const LengthPredictor predictor(Config());
  ASSERT_TRUE(predictor.Save(dir_).ok());
  EXPECT_THAT(Refusal(Config(13)), HasSubstr("shape_head.weight is F32 [12, 8]"));
  EXPECT_THAT(Refusal(Config(12, 16)), HasSubstr("needs F32 [12, 16]"));
  const auto write = [&](std::vector<SafetensorsTensor> tensors,
                         const std::map<std::string, std::string>& metadata) {
    ASSERT_TRUE(WriteSafetensors(dir_ + "/length_predictor.safetensors", tensors, metadata).ok());
  };
  std::vector<SafetensorsTensor> tensors;
  const auto names = predictor.Names();
  for (const auto& [name, tensor] : names)
    tensors.push_back(
        {name, "F32", tensor.sizes().vec(), tensor.const_data_ptr(), tensor.nbytes()});
  write(tensors, {});
  EXPECT_THAT(Refusal(Config()), HasSubstr("does not say"));
  write(tensors, {{"length_predictor", "2"}});
  EXPECT_THAT(Refusal(Config()), HasSubstr("version 2"));
  at::Tensor(names[2].second)[0][0] = std::numeric_limits<float>::quiet_NaN();
  write(tensors, {{"length_predictor", "1"}});
  EXPECT_THAT(Refusal(Config()), HasSubstr("rate_head.weight holds values that are not finite"));
  tensors.erase(tensors.begin());
  write(tensors, {{"length_predictor", "1"}});
  EXPECT_THAT(Refusal(Config()), HasSubstr("no tensor shape_head.weight"));
}

}  // namespace
}  // namespace tramontane
