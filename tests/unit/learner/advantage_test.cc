#include "trainer/learner/advantage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tramontane {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

AdvantageInput Input(std::vector<int64_t> group, std::vector<double> reward,
                     std::vector<int64_t> tokens = {}) {
  AdvantageInput input;
  input.tokens = tokens.empty() ? std::vector<int64_t>(reward.size(), 5) : std::move(tokens);
  input.group = std::move(group);
  input.reward = std::move(reward);
  return input;
}

struct Knobs {
  AlgorithmConfig algorithm;
  AdvantageConfig& advantage = algorithm.advantage;
  ConventionsConfig& conventions = algorithm.conventions;
  FilterConfig& filter = algorithm.filter;

  Knobs(const std::string& baseline, const std::string& scale) {
    advantage.baseline = baseline;
    advantage.scale = scale;
    advantage.epsilon = 0;
    filter.zero_variance = "keep";
  }
  Knobs(const Knobs&) = delete;
  AdvantageResult Run(const AdvantageInput& input) const {
    return ComputeAdvantages(input, algorithm).value();
  }
};

MATCHER_P(Near, tolerance, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= tolerance;
}

TEST(AdvantageTest, GroupStdIsUnbiasedOrPopulationAsConfigured) {
  Knobs knobs("group_mean", "group_std");
  const AdvantageInput input = Input({0, 0, 0, 0}, {1, 0, 0, 1});
  EXPECT_THAT(knobs.Run(input).advantage,
              Pointwise(Near(1e-6), std::vector<double>{0.866025, -0.866025, -0.866025, 0.866025}));
  knobs.advantage.ddof = 0;
  EXPECT_THAT(knobs.Run(input).advantage,
              Pointwise(Near(1e-12), std::vector<double>{1, -1, -1, 1}));
}

TEST(AdvantageTest, LeaveOneOutComparesWithTheOthers) {
  EXPECT_THAT(Knobs("leave_one_out", "none").Run(Input({0, 0, 0, 0}, {1, 0, 0, 0})).advantage,
              Pointwise(Near(1e-12), std::vector<double>{1, -1.0 / 3, -1.0 / 3, -1.0 / 3}));
}

TEST(AdvantageTest, LengthWeightedBaselineMakesTokenWeightedAdvantagesVanish) {
  const AdvantageInput input = Input({0, 0, 0}, {1, -1, 0.25}, {10, 20, 7});
  const AdvantageResult result = Knobs("length_weighted_mean", "none").Run(input);
  const double mean = (10 * 1.0 - 20 + 7 * 0.25) / 37;
  EXPECT_NEAR(result.advantage[0], 1 - mean, 1e-12);
  double sum = 0;
  for (size_t i = 0; i < 3; ++i) sum += static_cast<double>(input.tokens[i]) * result.advantage[i];
  EXPECT_NEAR(sum, 0, 1e-12);
}

TEST(AdvantageTest, MagistralDividesCentredRewardsByTheirMinibatchDeviation) {
  // Centred: ±0.5 in the first group, ±0.05 in the second; unbiased deviation over the four.
  const AdvantageInput input = Input({0, 0, 1, 1}, {1, 0, 0.1, 0});
  const double deviation = std::sqrt((2 * 0.25 + 2 * 0.0025) / 3);
  EXPECT_THAT(Knobs("group_mean", "minibatch_std").Run(input).advantage,
              Pointwise(Near(1e-12), std::vector<double>{0.5 / deviation, -0.5 / deviation,
                                                         0.05 / deviation, -0.05 / deviation}));
}

TEST(AdvantageTest, BatchStdDividesByTheDeviationOfRawRewards) {
  const AdvantageInput input = Input({0, 0, 1, 1}, {1, 0, 4, 3});
  const double deviation = std::sqrt((1 + 4 + 4 + 1) / 3.0);  // mean 2
  EXPECT_THAT(Knobs("group_mean", "batch_std").Run(input).advantage,
              Pointwise(Near(1e-12), std::vector<double>{.5 / deviation, -.5 / deviation,
                                                         .5 / deviation, -.5 / deviation}));
}

TEST(AdvantageTest, TokenWhitenWeightsByTokensAndRecentres) {
  const AdvantageInput input = Input({0, 0}, {1, 0}, {3, 1});
  // Centred ±½ with weights 3 and 1: mean ¼, unbiased variance (3/16 + 9/16)/3 = ¼.
  EXPECT_THAT(Knobs("group_mean", "token_whiten").Run(input).advantage,
              Pointwise(Near(1e-12), std::vector<double>{0.5, -1.5}));
}

TEST(AdvantageTest, BatchStdOverTokensAndRecentreAreConventions) {
  Knobs knobs("group_mean", "minibatch_std");
  const AdvantageInput input = Input({0, 0}, {1, 0}, {3, 1});
  knobs.conventions.batch_std_over = "tokens";
  EXPECT_THAT(knobs.Run(input).advantage, Pointwise(Near(1e-12), std::vector<double>{1, -1}));
  knobs.conventions.recentre = true;
  EXPECT_THAT(knobs.Run(input).advantage, Pointwise(Near(1e-12), std::vector<double>{0.5, -1.5}));
}

TEST(AdvantageTest, AGroupOfOneIsZeroOrRawByConventionAndNeverFiltered) {
  for (const std::string zero_variance : {"drop", "keep"}) {
    for (const std::string baseline : {"group_mean", "leave_one_out", "length_weighted_mean"}) {
      Knobs knobs(baseline, "none");
      knobs.filter.zero_variance = zero_variance;
      AdvantageResult result = knobs.Run(Input({7}, {0.75}));
      EXPECT_THAT(result.advantage, ElementsAre(0)) << baseline;
      EXPECT_THAT(result.kept, ElementsAre(1));
      EXPECT_EQ(result.singleton_groups, 1);
      knobs.conventions.singleton_group = "raw";
      EXPECT_THAT(knobs.Run(Input({7}, {0.75})).advantage, ElementsAre(0.75)) << baseline;
    }
  }
}

TEST(AdvantageTest, RawSingletonUnderGroupStdIsAsIfTheDeviationWereOne) {
  Knobs knobs("group_mean", "group_std");
  knobs.conventions.singleton_group = "raw";
  knobs.advantage.epsilon = 0.5;
  EXPECT_THAT(knobs.Run(Input({7}, {0.75})).advantage, ElementsAre(DoubleNear(0.5, 1e-12)));
}

TEST(AdvantageTest, ZeroVarianceGroupsLeaveStatisticsAndLoss) {
  Knobs knobs("group_mean", "minibatch_std");
  knobs.filter.zero_variance = "drop";
  const AdvantageResult result = knobs.Run(Input({0, 1, 0, 1}, {1, 1, 0, 1}));
  EXPECT_THAT(result.kept, ElementsAre(1, 0, 1, 0));
  EXPECT_EQ(result.zero_variance_groups, 1);
  const double deviation = std::sqrt(0.5);  // of ±½ alone
  EXPECT_THAT(result.advantage,
              Pointwise(Near(1e-12), std::vector<double>{.5 / deviation, 0, -.5 / deviation, 0}));
}

TEST(AdvantageTest, ZeroVarianceCanLookAtAccuracyInsteadOfShapedReward) {
  Knobs knobs("group_mean", "none");
  knobs.filter.zero_variance = "drop";
  AdvantageInput input = Input({0, 0}, {0.9, 1.0});
  EXPECT_THAT(knobs.Run(input).kept, ElementsAre(1, 1));
  knobs.filter.on = "accuracy";
  EXPECT_EQ(ComputeAdvantages(input, knobs.algorithm).status().code(),
            absl::StatusCode::kInvalidArgument);
  input.correct = {1, 1};
  EXPECT_THAT(knobs.Run(input).kept, ElementsAre(0, 0));
}

TEST(AdvantageTest, TruncatedModesDifferExactlyAsDefined) {
  Knobs knobs("group_mean", "none");
  AdvantageInput input = Input({0, 0, 0}, {1, 0, -1});
  input.truncated = {0, 0, 1};
  EXPECT_THAT(knobs.Run(input).advantage, ElementsAre(1, 0, -1));
  knobs.filter.truncated = "mask_after";  // in the group's mean, no gradient
  EXPECT_THAT(knobs.Run(input).advantage, ElementsAre(1, 0, 0));
  EXPECT_THAT(knobs.Run(input).kept, ElementsAre(1, 1, 1));
  knobs.filter.truncated = "mask_before";  // not in the mean either
  EXPECT_THAT(knobs.Run(input).advantage, ElementsAre(0.5, -0.5, 0));
  EXPECT_THAT(knobs.Run(input).kept, ElementsAre(1, 1, 1));
  knobs.filter.truncated = "drop";
  EXPECT_THAT(knobs.Run(input).advantage, ElementsAre(0.5, -0.5, 0));
  EXPECT_THAT(knobs.Run(input).kept, ElementsAre(1, 1, 0));
}

TEST(AdvantageTest, PositiveOnlyCutsAndKeepPositiveDrops) {
  Knobs knobs("none", "none");
  knobs.advantage.sign = "positive_only";
  AdvantageResult result = knobs.Run(Input({0, 0, 0}, {1, -1, 0}));
  EXPECT_THAT(result.advantage, ElementsAre(1, 0, 0));
  EXPECT_THAT(result.kept, ElementsAre(1, 1, 1));
  KeepPositive(result);
  EXPECT_THAT(result.kept, ElementsAre(1, 0, 0));
}

TEST(AdvantageTest, GroupIdsNeedNotBeContiguousOrOrdered) {
  EXPECT_THAT(Knobs("group_mean", "none").Run(Input({9, -2, 9, -2}, {1, 4, 0, 2})).advantage,
              ElementsAre(0.5, 1, -0.5, -1));
}

TEST(AdvantageTest, LogSumExpIsTheMirrorDescentNormaliser) {
  Knobs knobs("group_mean", "none");
  knobs.algorithm.objective.kind = "opmd";
  knobs.algorithm.objective.log_z = "logsumexp";
  knobs.algorithm.objective.tau = 0.5;
  const double baseline = 0.5 * std::log((std::exp(2.0) + std::exp(0.0)) / 2);
  EXPECT_THAT(knobs.Run(Input({0, 0}, {1, 0})).advantage,
              Pointwise(Near(1e-12), std::vector<double>{1 - baseline, -baseline}));
  // A small τ tends to the largest reward, a large one to the mean; neither overflows.
  knobs.algorithm.objective.tau = 1e-4;
  EXPECT_NEAR(knobs.Run(Input({0, 0}, {1, 0})).advantage[0], 1e-4 * std::log(2.0), 1e-9);
  knobs.algorithm.objective.tau = 1e6;
  EXPECT_NEAR(knobs.Run(Input({0, 0}, {1, 0})).advantage[0], 0.5, 1e-6);
}

AdvantageInput WithValues(std::vector<double> reward, std::vector<int64_t> tokens,
                          std::vector<double> value) {
  std::vector<int64_t> group(reward.size(), 0);
  AdvantageInput input = Input(std::move(group), std::move(reward), std::move(tokens));
  input.value = std::move(value);
  return input;
}

TEST(AdvantageTest, WithoutDiscountAndDecayAdvantagesAreRewardMinusValue) {
  const AdvantageResult result =
      Knobs("value", "none").Run(WithValues({1, -1}, {3, 2}, {.1, .2, .3, .4, .5}));
  EXPECT_THAT(result.token_advantage,
              Pointwise(Near(1e-12), std::vector<double>{.9, .8, .7, -1.4, -1.5}));
  EXPECT_THAT(result.value_target, Pointwise(Near(1e-12), std::vector<double>{1, 1, 1, -1, -1}));
  EXPECT_THAT(result.advantage, Pointwise(Near(1e-12), std::vector<double>{.8, -1.45}));
}

TEST(AdvantageTest, LengthAdaptiveLambdaDiscountsByTheLength) {
  Knobs knobs("value", "none");
  knobs.advantage.alpha = 1.5;
  const AdvantageResult result = knobs.Run(WithValues({1}, {10}, std::vector<double>(10, 0.0)));
  EXPECT_NEAR(result.token_advantage[0], std::pow(14.0 / 15, 9), 1e-12);
  EXPECT_NEAR(result.token_advantage[0], 0.537441, 1e-6);
  EXPECT_NEAR(result.token_advantage[9], 1, 1e-12);
  // λ of the values stays 1: the targets are the returns whatever the values say.
  const AdvantageResult other = knobs.Run(WithValues({1}, {10}, std::vector<double>(10, 0.7)));
  EXPECT_THAT(other.value_target, Pointwise(Near(1e-12), std::vector<double>(10, 1.0)));
  // α = 0.05 leaves λ = 0 up to 20 tokens: the surprise of each step alone.
  knobs.advantage.alpha = 0.05;
  EXPECT_NEAR(knobs.Run(WithValues({1}, {3}, {.2, .5, .6})).token_advantage[0], 0.3, 1e-12);
}

TEST(AdvantageTest, GaeFollowsItsDefinitionWithDecoupledLambdas) {
  Knobs knobs("value", "none");
  knobs.advantage.gamma = 0.9;
  knobs.advantage.lambda_policy = 0.5;
  knobs.advantage.lambda_value = 0.8;
  AdvantageInput input = WithValues({2}, {3}, {.5, -1, .25});
  input.token_reward = {0.1, 0, -0.2};
  const AdvantageResult result = knobs.Run(input);
  const double d0 = 0.1 + 0.9 * -1 - 0.5, d1 = 0.9 * 0.25 + 1, d2 = 1.8 - 0.25;
  EXPECT_NEAR(result.token_advantage[0], d0 + .45 * d1 + .45 * .45 * d2, 1e-12);
  EXPECT_NEAR(result.value_target[0], 0.5 + d0 + .72 * d1 + .72 * .72 * d2, 1e-12);
}

TEST(AdvantageTest, ScalesOfValueAdvantagesCountTokens) {
  // Advantages 1, 0 | −1, −2, and rewards 1 and −1.
  const AdvantageInput input = WithValues({1, -1}, {2, 2}, {0, 1, 0, 1});
  const auto run = [&](const std::string& scale) {
    return Knobs("value", scale).Run(input).token_advantage;
  };
  EXPECT_THAT(run("none"), ElementsAre(1, 0, -1, -2));
  const double deviation = std::sqrt(5.0 / 3);
  EXPECT_THAT(run("minibatch_std"),
              Pointwise(Near(1e-12),
                        std::vector<double>{1 / deviation, 0, -1 / deviation, -2 / deviation}));
  EXPECT_THAT(run("token_whiten"),
              Pointwise(Near(1e-12), std::vector<double>{1.5 / deviation, .5 / deviation,
                                                         -.5 / deviation, -1.5 / deviation}));
  for (const std::string scale : {"group_std", "batch_std"}) {
    EXPECT_NEAR(run(scale)[0], 1 / std::sqrt(2.0), 1e-12) << scale;
  }
}

TEST(AdvantageTest, EveryBaselineTimesEveryScaleTimesEverySignIsFinite) {
  AdvantageInput input = Input({0, 0, 1, 1, 2}, {1, 0, 0.5, 0.5, 1}, {3, 1, 2, 0, 4});
  input.value.assign(10, 0.25);
  for (const std::string baseline :
       {"none", "group_mean", "length_weighted_mean", "leave_one_out", "value"}) {
    for (const std::string scale :
         {"none", "group_std", "minibatch_std", "batch_std", "token_whiten"}) {
      for (const std::string sign : {"both", "positive_only"}) {
        Knobs knobs(baseline, scale);
        knobs.advantage.epsilon = 1e-6;
        knobs.advantage.sign = sign;
        const AdvantageResult result = knobs.Run(input);
        double largest = 0;
        for (double a : result.advantage) {
          EXPECT_TRUE(std::isfinite(a)) << baseline << " " << scale;
          EXPECT_TRUE(sign == "both" || a >= 0);
          largest = std::max(largest, std::abs(a));
        }
        EXPECT_GT(largest, 0.1) << baseline << " " << scale;
      }
    }
  }
}

TEST(AdvantageTest, WhatIsLeftOutOfStatisticsTeachesTheCriticNothing) {
  Knobs knobs("value", "none");
  AdvantageInput input = WithValues({1, 0.2}, {2, 2}, {.3, .4, .5, .6});
  input.truncated = {0, 1};
  knobs.filter.truncated = "mask_before";
  AdvantageResult result = knobs.Run(input);
  EXPECT_THAT(result.token_advantage, Pointwise(Near(1e-12), std::vector<double>{.7, .6, 0, 0}));
  EXPECT_THAT(result.value_target, Pointwise(Near(1e-12), std::vector<double>{1, 1, .5, .6}));
  knobs.filter.truncated = "mask_after";  // in statistics, so its return is a return
  result = knobs.Run(input);
  EXPECT_THAT(result.token_advantage, Pointwise(Near(1e-12), std::vector<double>{.7, .6, 0, 0}));
  EXPECT_THAT(result.value_target, Pointwise(Near(1e-12), std::vector<double>{1, 1, .2, .2}));
}

TEST(AdvantageTest, ValuesMustCoverTheSampledTokens) {
  const Knobs knobs("value", "none");
  const absl::Status status = ComputeAdvantages(Input({0}, {1}), knobs.algorithm).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("advantage.baseline"));
}

TEST(AdvantageTest, AnEmptyBatchIsLegal) {
  EXPECT_TRUE(Knobs("group_mean", "minibatch_std").Run(AdvantageInput()).advantage.empty());
}

TEST(AdvantageTest, MaskedSequencesCountInTheirGroupAndTeachNothing) {
  Knobs knobs("group_mean", "none");
  AdvantageInput input = Input({0, 0, 0}, {1, 0, 5}, {1, 2, 1});
  input.masked = {0, 0, 1};
  EXPECT_THAT(knobs.Run(input).advantage, ElementsAre(-1, -2, 0));
  EXPECT_THAT(knobs.Run(input).kept, ElementsAre(1, 1, 1));
  input.token_reward = {1, 1, 1, 1};
  EXPECT_THAT(knobs.Run(input).token_advantage, ElementsAre(0, -1, -1, 0));
  input.masked = {0};
  EXPECT_FALSE(ComputeAdvantages(input, knobs.algorithm).ok());
}

}  // namespace
}  // namespace tramontane
