#include "trainer/learner/aggregation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tramontane {
namespace {

// Two groups: tokens 2, 4 and 6, 0; the last sequence of three is dropped in some tests.
const std::vector<int64_t> kGroup = {0, 0, 1, 1};
const std::vector<int64_t> kTokens = {2, 4, 6, 0};
const std::vector<uint8_t> kAll = {1, 1, 1, 1};

std::vector<double> Weights(const std::string& mode, const std::string& scope,
                            const std::vector<uint8_t>& kept = kAll,
                            ConventionsConfig conventions = {}) {
  AggregationConfig aggregation;
  aggregation.mode = mode;
  aggregation.scope = scope;
  if (mode == "token_sum_const") aggregation.constant = 50;
  return TokenWeights(kGroup, kTokens, kept, aggregation, conventions);
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-15) << i;
}

TEST(AggregationTest, GlobalWeightsMatchTheDefinitions) {
  for (const std::string scope : {"global", "minibatch"}) {
    ExpectNear(Weights("token_mean", scope), {1 / 12., 1 / 12., 1 / 12., 0});
    ExpectNear(Weights("seq_mean_token_mean", scope), {1 / 6., 1 / 12., 1 / 18., 0});
    ExpectNear(Weights("seq_mean_token_sum", scope), {1 / 3., 1 / 3., 1 / 3., 0});
    ExpectNear(Weights("token_sum_const", scope), {1 / 50., 1 / 50., 1 / 50., 0});
  }
}

TEST(AggregationTest, TheConstantCanStandForEachSequence) {
  ConventionsConfig conventions;
  conventions.constant_per = "sequence";
  ExpectNear(Weights("token_sum_const", "global", kAll, conventions),
             {1 / 150., 1 / 150., 1 / 150., 0});
  conventions.empty_sequences = "count";
  ExpectNear(Weights("token_sum_const", "global", kAll, conventions),
             {1 / 200., 1 / 200., 1 / 200., 0});
}

TEST(AggregationTest, GroupScopeAveragesOverGroups) {
  ExpectNear(Weights("token_mean", "group"), {1 / 12., 1 / 12., 1 / 12., 0});
  ExpectNear(Weights("seq_mean_token_mean", "group"), {1 / 8., 1 / 16., 1 / 12., 0});
  ExpectNear(Weights("seq_mean_token_sum", "group"), {1 / 4., 1 / 4., 1 / 2., 0});
  ExpectNear(Weights("token_sum_const", "group"), {1 / 100., 1 / 100., 1 / 100., 0});
}

TEST(AggregationTest, GroupAndGlobalTokenMeansDifferOnceGroupsHaveDifferentLengths) {
  AggregationConfig aggregation;
  aggregation.scope = "group";
  const std::vector<double> weights = TokenWeights({0, 1}, {2, 8}, {1, 1}, aggregation, {});
  ExpectNear(weights, {1 / 4., 1 / 16.});
}

TEST(AggregationTest, DroppedSequencesLeaveTheDenominators) {
  const std::vector<uint8_t> kept = {1, 0, 1, 1};
  ExpectNear(Weights("token_mean", "global", kept), {1 / 8., 0, 1 / 8., 0});
  ExpectNear(Weights("seq_mean_token_sum", "global", kept), {1 / 2., 0, 1 / 2., 0});
}

TEST(AggregationTest, EmptySequencesCountByConvention) {
  ConventionsConfig conventions;
  conventions.empty_sequences = "count";
  ExpectNear(Weights("seq_mean_token_mean", "global", kAll, conventions),
             {1 / 8., 1 / 16., 1 / 24., 0});
  ExpectNear(Weights("seq_mean_token_sum", "group", kAll, conventions),
             {1 / 4., 1 / 4., 1 / 4., 0});
  ExpectNear(Weights("token_mean", "global", kAll, conventions), {1 / 12., 1 / 12., 1 / 12., 0});
}

TEST(AggregationTest, DenominatorEpsilonIsAdded) {
  ConventionsConfig conventions;
  conventions.denominator_epsilon = 0.5;
  ExpectNear(Weights("token_mean", "global", kAll, conventions), {1 / 12.5, 1 / 12.5, 1 / 12.5, 0});
  ExpectNear(Weights("seq_mean_token_mean", "global", kAll, conventions),
             {1 / (3.5 * 2.5), 1 / (3.5 * 4.5), 1 / (3.5 * 6.5), 0});
}

TEST(AggregationTest, MeansCoincideWhenAllLengthsAreEqual) {
  const std::vector<int64_t> tokens = {5, 5, 5, 5};
  AggregationConfig aggregation;
  std::vector<std::vector<double>> all;
  for (const std::string scope : {"group", "minibatch", "global"}) {
    for (const std::string mode : {"token_mean", "seq_mean_token_mean", "token_sum_const"}) {
      aggregation.mode = mode;
      aggregation.scope = scope;
      aggregation.constant = scope == "group" ? 10 : 20;  // tokens in scope
      all.push_back(TokenWeights(kGroup, tokens, kAll, aggregation, {}));
    }
  }
  for (const auto& weights : all) ExpectNear(weights, std::vector<double>(4, 1 / 20.));
}

TEST(AggregationTest, NothingKeptGivesNoWeightAndNoDivisionByZero) {
  for (const std::string mode : {"token_mean", "seq_mean_token_mean", "seq_mean_token_sum"}) {
    for (const double weight : Weights(mode, "group", {0, 0, 0, 0})) EXPECT_EQ(weight, 0);
  }
}

TEST(AggregationTest, PositiveWeightsAreAMeanOverRewardedTokens) {
  ExpectNear(PositiveTokenWeights({1, 0, 1, 1}, kTokens, kAll), {1 / 8., 0, 1 / 8., 0});
  ExpectNear(PositiveTokenWeights({1, 0, 1, 1}, kTokens, {0, 1, 1, 1}), {0, 0, 1 / 6., 0});
  ExpectNear(PositiveTokenWeights({0, 0, 0, 0}, kTokens, kAll), {0, 0, 0, 0});
}

}  // namespace
}  // namespace tramontane
