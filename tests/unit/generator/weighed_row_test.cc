#include "generator/weighed_row.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "generator/core/sampler.h"

namespace tramontane {
namespace {

using ::testing::ElementsAre;

const std::vector<float> kLogits = {0.5f, -1.25f, 2.0f, 0.0f, 1.0f};

std::vector<double> Softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  for (const float logit : logits) p.push_back(std::exp(logit / temperature));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= total;
  return p;
}

TEST(WeighedRow, EqualWeightsLeaveEveryBitAsItWas) {
  WeighedRow weighed;
  for (const double temperature : {0.0, 0.7, 1.0}) {
    const auto row = weighed.Apply({kLogits, {}}, std::vector<float>(5, 0.3f), temperature);
    EXPECT_TRUE(std::ranges::equal(row.logits, kLogits));
    EXPECT_THAT(row.ids, ElementsAre(0, 1, 2, 3, 4));
    EXPECT_FALSE(weighed.kept_likeliest());
  }
}

TEST(WeighedRow, ProbabilitiesAreMultipliedAtTheTemperatureThatTheyAreDrawnAt) {
  const std::vector<float> weights = {0.5f, 1.0f, 0.0f, 0.125f, 1e-30f};
  WeighedRow weighed;
  Sampler sampler;
  for (const double temperature : {0.5, 1.0, 2.0}) {
    const auto row = weighed.Apply({kLogits, {}}, weights, temperature);
    EXPECT_THAT(row.ids, ElementsAre(0, 1, 3, 4));
    std::vector<double> expected = Softmax(kLogits, temperature);
    double total = 0;
    for (size_t v = 0; v < expected.size(); ++v) total += expected[v] *= weights[v];
    SamplingParams sampling;
    sampling.temperature = temperature;
    // What is drawn, and the log-probability that is told of it, are of this distribution.
    std::vector<int> drawn(kLogits.size());
    constexpr int kDraws = 4096;
    for (int i = 0; i < kDraws; ++i) {
      const SampledToken token = sampler.Sample(row.logits, sampling, (i + 0.5) / kDraws);
      const auto id = static_cast<size_t>(row.IdOf(token.token));
      ++drawn[id];
      EXPECT_NEAR(token.logprob, std::log(expected[id] / total), 1e-5);
    }
    for (size_t v = 0; v < drawn.size(); ++v)
      EXPECT_NEAR(drawn[v], kDraws * expected[v] / total, 1.5) << v;
  }
}

TEST(WeighedRow, GreedyDrawsTakeTheLargestProduct) {
  WeighedRow weighed;
  const auto row =
      weighed.Apply({kLogits, {}}, std::vector<float>{0.1f, 1.0f, 0.01f, 0.1f, 0.9f}, 0);
  SamplingParams greedy;
  greedy.temperature = 0;
  EXPECT_EQ(row.IdOf(Sampler().Sample(row.logits, greedy, 0).token), 4);
}

TEST(WeighedRow, WithoutAnyWeightTheLikeliestTokenIsKept) {
  WeighedRow weighed;
  auto row = weighed.Apply({kLogits, {}}, std::vector<float>(5, 0.0f), 1);
  EXPECT_THAT(row.ids, ElementsAre(2));
  EXPECT_THAT(row.logits, ElementsAre(2.0f));
  EXPECT_TRUE(weighed.kept_likeliest());
  row = weighed.Apply({kLogits, {}}, std::vector<float>{0, 0, 0, 1, 0}, 1);
  EXPECT_THAT(row.ids, ElementsAre(3));
  EXPECT_FALSE(weighed.kept_likeliest());
}

TEST(WeighedRow, WeightsBelongToIdsWhereRulesHaveLeftFewer) {
  const std::vector<float> logits = {3.0f, 1.0f, 2.0f};
  const std::vector<int32_t> ids = {1, 4, 7};
  const std::vector<float> weights = {1, 0, 1, 1, 0.5f, 1, 1, 0.5f};
  WeighedRow weighed;
  auto row = weighed.Apply({logits, ids}, weights, 1);
  EXPECT_THAT(row.ids, ElementsAre(4, 7));
  EXPECT_THAT(row.logits, ElementsAre(1.0f, 2.0f));
  row = weighed.Apply({logits, ids}, std::vector<float>(8, 0.0f), 1);
  EXPECT_THAT(row.ids, ElementsAre(1));
}

}  // namespace
}  // namespace tramontane
