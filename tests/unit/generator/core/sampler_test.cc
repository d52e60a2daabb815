#include "generator/core/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "generator/core/philox.h"

namespace tramontane {
namespace {

using ::testing::ElementsAre;

SamplingParams Params(double temperature, int32_t top_k = 0, double top_p = 1, double min_p = 0) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.min_p = min_p;
  params.max_new_tokens = 1;
  return params;
}

std::vector<float> RandomLogits(size_t vocab, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab);
  for (float& value : logits) value = normal(random);
  return logits;
}

// The distribution by the definition in sampler.h, in double precision, sorting everything.
std::map<int32_t, double> ExactDistribution(const std::vector<float>& logits,
                                            const SamplingParams& params) {
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) order.resize(std::min<size_t>(order.size(), params.top_k));
  const auto weight = [&](int32_t id) {
    return std::exp((static_cast<double>(logits[id]) - logits[order[0]]) / params.temperature);
  };
  double mass = 0, sum = 0;
  for (int32_t id : order) mass += weight(id);
  std::map<int32_t, double> kept;
  for (int32_t id : order) {
    if (!kept.empty() && params.top_p < 1 && sum >= params.top_p * mass) break;
    if (weight(id) < params.min_p) break;
    kept[id] = weight(id);
    sum += weight(id);
  }
  for (auto& [id, probability] : kept) probability /= sum;
  return kept;
}

TEST(Sampler, TheLowestTemperaturesTakeTheMostLikelyToken) {
  const std::vector<float> logits = {1, 4, 4, -3};
  Sampler sampler;
  for (const double temperature : {1e-3, 1e-37, 1e-40, 1e-300, 5e-324}) {
    for (const int32_t top_k : {0, 3}) {
      const SamplingParams params = Params(temperature, top_k);
      const SampledToken low = sampler.Sample(logits, params, 0.25);
      const SampledToken high = sampler.Sample(logits, params, 0.75);
      EXPECT_EQ(low.token, 1) << temperature;
      EXPECT_EQ(high.token, 2) << temperature;
      EXPECT_NEAR(high.logprob, -std::log(2.0), 1e-6) << temperature;
      EXPECT_NEAR(sampler.Likeliest(logits, params, 1).at(0).logprob, -std::log(2.0), 1e-6);
    }
  }
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargestWithItsTemperatureOneLogProbability) {
  Sampler sampler;
  const std::vector<float> logits = {0.5f, 2.0f, 2.0f, -1.0f};
  const SampledToken token = sampler.Sample(logits, Params(0), 0.99);
  EXPECT_TRUE(token.finite);
  EXPECT_EQ(token.token, 1);
  const double total = std::exp(0.5) + 2 * std::exp(2.0) + std::exp(-1.0);
  EXPECT_NEAR(token.logprob, 2.0 - std::log(total), 1e-6);
}

TEST(Sampler, AlternativesAreTheLikeliestOfTheDistributionDrawnFrom) {
  Sampler sampler;
  const std::vector<float> logits = RandomLogits(300, 2, 5);
  for (const SamplingParams& params :
       {Params(1), Params(0.7), Params(1, 4), Params(1.3, 0, 0.8), Params(1, 0, 1, 0.05)}) {
    const std::map<int32_t, double> exact = ExactDistribution(logits, params);
    const std::vector<TokenLogprob> likeliest = sampler.Likeliest(logits, params, 6);
    ASSERT_EQ(likeliest.size(), std::min<size_t>(6, exact.size()));
    for (size_t i = 0; i < likeliest.size(); ++i) {
      EXPECT_NEAR(likeliest[i].logprob, std::log(exact.at(likeliest[i].token)), 1e-5);
      if (i > 0) {
        EXPECT_LE(likeliest[i].logprob, likeliest[i - 1].logprob);
      }
    }
    double rest = 0;  // nothing likelier was left out
    for (const auto& [token, probability] : exact) rest = std::max(rest, probability);
    EXPECT_NEAR(likeliest[0].logprob, std::log(rest), 1e-5);
  }
  const std::vector<TokenLogprob> greedy = sampler.Likeliest(logits, Params(0), 2);
  EXPECT_EQ(greedy[0].token, sampler.Sample(logits, Params(0), 0).token);
  EXPECT_NEAR(greedy[0].logprob, sampler.Sample(logits, Params(0), 0).logprob, 1e-6);
}

TEST(Sampler, TruncationKeepsExactlyTheDefinedSet) {
  Sampler sampler;
  // Probabilities 0.5, 0.25, 0.15, 0.10 at temperature 1, shuffled over the ids.
  const std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.1f),
                                     std::log(0.25f)};
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 2)), ElementsAre(1, 3));
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 0, 0.74)), ElementsAre(1, 3));
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 0, 0.76)), ElementsAre(1, 3, 0));
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 0, 0.01)), ElementsAre(1));
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 0, 1, 0.29)), ElementsAre(1, 3, 0));
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 0, 1, 0.31)), ElementsAre(1, 3));
  // top_p counts shares of what top_k left: 0.5 / 0.75 ≥ 0.6.
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 2, 0.6)), ElementsAre(1));
}

TEST(Sampler, EqualLogitsRankById) {
  Sampler sampler;
  const std::vector<float> logits(300, 1.0f);
  EXPECT_THAT(sampler.KeptTokens(logits, Params(1, 3)), ElementsAre(0, 1, 2));
  EXPECT_EQ(sampler.KeptTokens(logits, Params(1, 0, 0.5)).size(), 150u);
}

TEST(Sampler, LogProbabilitiesAreThoseOfTheDistributionSampledFrom) {
  Sampler sampler;
  uint32_t seed = 0;
  for (size_t vocab : {5u, 264u, 3000u}) {
    for (float spread : {0.3f, 2.0f, 10.0f}) {
      const std::vector<float> logits = RandomLogits(vocab, spread, ++seed);
      for (const SamplingParams& params :
           {Params(1), Params(0.3), Params(2), Params(1, 20), Params(0.7, 0, 0.9),
            Params(1, 0, 1, 0.05), Params(0.8, 100, 0.95, 0.001), Params(1, 0, 0.9999)}) {
        const auto exact = ExactDistribution(logits, params);
        for (uint32_t draw = 0; draw < 50; ++draw) {
          const SampledToken token = sampler.Sample(logits, params, UniformDraw(seed, 0, draw));
          ASSERT_TRUE(token.finite);
          ASSERT_TRUE(exact.contains(token.token));
          ASSERT_NEAR(token.logprob, std::log(exact.at(token.token)),
                      2e-6 * std::max(1.0, spread / params.temperature));
        }
      }
    }
  }
}

TEST(Sampler, FrequenciesPassAChiSquaredTestAgainstTheExactDistribution) {
  Sampler sampler;
  const std::vector<float> logits = RandomLogits(200, 1.5f, 11);
  for (const SamplingParams& params :
       {Params(1), Params(0.5), Params(1, 12), Params(1, 0, 0.8), Params(1.5, 0, 1, 0.1)}) {
    constexpr int kDraws = 10000;
    const auto exact = ExactDistribution(logits, params);
    std::map<int32_t, int> counts;
    for (uint32_t draw = 0; draw < kDraws; ++draw)
      ++counts[sampler.Sample(logits, params, UniformDraw(5, draw % 7, draw)).token];
    double chi_squared = 0, rest_expected = 0, rest_count = 0;
    int cells = 0;
    for (const auto& [id, probability] : exact) {
      const double expected = probability * kDraws;
      if (expected < 8) {  // too rare for a cell of its own
        rest_expected += expected;
        rest_count += counts[id];
        continue;
      }
      chi_squared += (counts[id] - expected) * (counts[id] - expected) / expected;
      ++cells;
    }
    if (rest_expected > 0) {
      chi_squared += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
      ++cells;
    }
    // Mean k, variance 2k: five standard deviations.
    EXPECT_LT(chi_squared, (cells - 1) + 5 * std::sqrt(2.0 * (cells - 1)));
    for (const auto& [id, count] : counts) EXPECT_TRUE(exact.contains(id));
  }
}

TEST(Sampler, TheExtremesOfTheDrawStayInsideTheDistribution) {
  Sampler sampler;
  std::vector<float> logits(500, -300.0f);
  logits[7] = 1.0f;
  logits[130] = 1.0f;
  for (double draw : {0.0, 0.25, 0.75, 1.0 - 0x1p-53}) {
    for (const SamplingParams& params :
         {Params(1), Params(1, 2), Params(0.01), Params(1, 0, 0.99)}) {
      const SampledToken token = sampler.Sample(logits, params, draw);
      EXPECT_EQ(token.token, draw < 0.5 ? 7 : 130);
      EXPECT_NEAR(token.logprob, -std::log(2.0), 1e-6);
    }
  }
}

TEST(Sampler, SaysSoWhenARowIsNotFinite) {
  Sampler sampler;
  std::vector<float> logits = RandomLogits(264, 1, 2);
  logits[100] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(sampler.Sample(logits, Params(1), 0.5).finite);
  EXPECT_FALSE(sampler.Sample(logits, Params(0), 0.5).finite);
}

TEST(CheckSampling, NamesTheFieldThatIsOutOfRange) {
  EXPECT_TRUE(CheckSampling(Params(0.7, 5, 0.9, 0.1)).ok());
  const auto message = [](SamplingParams params) {
    const absl::Status status = CheckSampling(params);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message(Params(-1)), ::testing::HasSubstr("temperature"));
  EXPECT_THAT(message(Params(std::nan(""))), ::testing::HasSubstr("temperature"));
  EXPECT_THAT(message(Params(1, -1)), ::testing::HasSubstr("top_k"));
  EXPECT_THAT(message(Params(1, 0, 0)), ::testing::HasSubstr("top_p"));
  EXPECT_THAT(message(Params(1, 0, 1, 1)), ::testing::HasSubstr("min_p"));
  SamplingParams none = Params(1);
  none.max_new_tokens = 0;
  EXPECT_THAT(message(none), ::testing::HasSubstr("max_new_tokens"));
}

}  // namespace
}  // namespace tramontane
