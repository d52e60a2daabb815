#include "trainer/learner/train_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace tramontane {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Rollout MakeRollout(VerdictStatus status, std::optional<double> score) {
  Rollout rollout;
  rollout.tokens = {5, 6, 7};
  rollout.logprobs = {-1, -2, -3};
  rollout.spans = {{4, 1}, {5, 2}};
  rollout.finish_reason = FinishReason::kStop;
  rollout.verdict.status = status;
  rollout.verdict.score = score;
  return rollout;
}

Group MakeGroup(std::vector<Rollout> rollouts) {
  Group group;
  group.task.gid = "g7";
  group.task.row.prompt_tokens = {1, 2};
  group.rollouts = std::move(rollouts);
  return group;
}

TEST(TrainRowsTest, OnlyScoredAndPolicyFailuresWithAScoreAreLearntFrom) {
  const Group group = MakeGroup({MakeRollout(VerdictStatus::kScored, 1.0),
                                 MakeRollout(VerdictStatus::kInfraFailure, std::nullopt),
                                 MakeRollout(VerdictStatus::kTimeout, std::nullopt),
                                 MakeRollout(VerdictStatus::kPolicyFailure, 0.0),
                                 MakeRollout(VerdictStatus::kInfraFailure, 0.0),  // a score there means nothing
                                 MakeRollout(VerdictStatus::kScored, std::nullopt)});
  const CollectedRows collected = CollectRows(std::vector<Group>{group}).value();
  ASSERT_EQ(collected.rows.size(), 2u);
  EXPECT_EQ(collected.rows[0].reward, 1);
  EXPECT_EQ(collected.rows[1].reward, 0);
  EXPECT_EQ(collected.without_score, 4);
  EXPECT_EQ(collected.rows[0].input_tokens(), 4);
}

TEST(TrainRowsTest, LengthsThatDisagreeAreRefusedByName) {
  Rollout rollout = MakeRollout(VerdictStatus::kScored, 1.0);
  rollout.logprobs.pop_back();
  absl::Status status = CollectRows(std::vector<Group>{MakeGroup({rollout})}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("g7"));
  rollout = MakeRollout(VerdictStatus::kScored, 1.0);
  rollout.spans.pop_back();
  EXPECT_FALSE(CollectRows(std::vector<Group>{MakeGroup({rollout})}).ok());
}

TEST(TrainRowsTest, InjectedTokensAreFedToTheModelButNotLearntFrom) {
  Rollout rollout = MakeRollout(VerdictStatus::kScored, 1.0);
  rollout.injected = {{0, 1}, {2, 1}};
  std::vector<Group> groups = {MakeGroup({rollout})};
  const TrainRow row = CollectRows(groups).value().rows[0];
  EXPECT_EQ(row.input_tokens(), 4);
  EXPECT_EQ(row.sampled_tokens(), 1);
  groups[0].rollouts[0].injected = {{2, 2}};
  EXPECT_EQ(CollectRows(groups).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(TrainRowsTest, NonFiniteBehaviourLogprobsLeaveTheStep) {
  Rollout rollout = MakeRollout(VerdictStatus::kScored, 1.0);
  rollout.logprobs[1] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Group> groups = {MakeGroup({rollout, MakeRollout(VerdictStatus::kScored, 0.5)})};
  const CollectedRows collected = CollectRows(groups).value();
  EXPECT_EQ(collected.nonfinite_logprobs, 1);
  ASSERT_EQ(collected.rows.size(), 1u);
  EXPECT_EQ(collected.rows[0].reward, 0.5);
}

TEST(TrainRowsTest, AnEmptyResponseIsARowWithoutInput) {
  Rollout rollout = MakeRollout(VerdictStatus::kScored, 0.0);
  rollout.tokens.clear();
  rollout.logprobs.clear();
  rollout.spans.clear();
  const std::vector<Group> groups = {MakeGroup({rollout})};
  EXPECT_EQ(CollectRows(groups).value().rows[0].input_tokens(), 0);
}

TEST(TrainRowsTest, SftExamplesNeedPromptAndCompletion) {
  EXPECT_EQ(CollectRows(std::vector<SftExample>{{{1, 2}, {3}}}).value().rows[0].input_tokens(), 2);
  EXPECT_FALSE(CollectRows(std::vector<SftExample>{{{1, 2}, {}}}).ok());
  EXPECT_FALSE(CollectRows(std::vector<SftExample>{{{}, {3}}}).ok());
}

TEST(TrainRowsTest, RoutesMustFitInputsAndModelWhereTheyAreReplayed) {
  const RowLimits dense{.vocab_size = 10};
  const RowLimits routed{.vocab_size = 10, .route_size = 4, .experts_per_token = 2, .experts = 5};
  Rollout rollout = MakeRollout(VerdictStatus::kScored, 1.0);  // 2 + 3 − 1 inputs
  const auto check = [&](const RowLimits& limits) {
    return CheckGroup(MakeGroup({rollout}), limits);
  };
  EXPECT_TRUE(check(dense).ok());
  const absl::Status absent = check(routed);
  EXPECT_EQ(absent.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(absent.message()), HasSubstr("router_replay"));
  EXPECT_THAT(std::string(absent.message()), HasSubstr("g7"));
  rollout.routes.assign(16, 4);
  EXPECT_TRUE(check(routed).ok());
  rollout.routes[3] = 5;
  EXPECT_THAT(std::string(check(routed).message()), HasSubstr("does not have"));
  rollout.routes[3] = kNoRoute;  // beside an expert
  EXPECT_FALSE(check(routed).ok());
  rollout.routes[2] = kNoRoute;
  EXPECT_TRUE(check(routed).ok());
  rollout.routes.pop_back();
  EXPECT_FALSE(check(routed).ok());
  rollout.verdict.status = VerdictStatus::kInfraFailure;  // not learnt from
  EXPECT_TRUE(check(routed).ok());
}

TEST(TrainRowsTest, TokensOfOldVersionsAreFedToTheModelButNotLearntFrom) {
  Rollout rollout = MakeRollout(VerdictStatus::kScored, 1.0);  // versions 4, 5, 5
  rollout.injected = {{1, 1}};
  const std::vector<Group> groups = {MakeGroup({rollout, MakeRollout(VerdictStatus::kScored, 0)})};
  FilterConfig filter;
  filter.segment_max_age_versions = 2;
  EXPECT_EQ(CollectRows(groups, filter, 6).value().old_tokens, 0);
  const CollectedRows collected = CollectRows(groups, filter, 7).value();
  EXPECT_EQ(collected.old_tokens, 2);
  EXPECT_EQ(collected.rows[0].injected.size(), 1u);  // the old token and the injected one behind it
  EXPECT_EQ(collected.rows[0].sampled_tokens(), 1);
  EXPECT_EQ(collected.rows[1].sampled_tokens(), 2);
  EXPECT_EQ(collected.rows[1].input_tokens(), 4);
  // All of it is too old: a row without a token to learn from, as empty ones are.
  EXPECT_EQ(CollectRows(groups, filter, 8).value().rows[1].sampled_tokens(), 0);
  EXPECT_EQ(CollectRows(groups).value().old_tokens, 0);
}

TEST(TrainRowsTest, GibberishAndRepetitionAreMaskedWhereTheFilterSaysSo) {
  std::vector<Rollout> rollouts(3, MakeRollout(VerdictStatus::kScored, 1.0));
  rollouts[0].logprobs[1] = -14;                  // token 6
  rollouts[1].logprobs = {-0.001f, -0.001f, -1};  // all but certain
  FilterConfig filter;
  filter.gibberish_token_min = 6;
  filter.repetition_window = 2;
  const auto masked = [&] {
    std::vector<bool> out;
    const std::vector<Group> groups = {MakeGroup(rollouts)};
    const CollectedRows collected = CollectRows(groups, filter).value();
    for (const TrainRow& row : collected.rows) out.push_back(row.masked);
    return out;
  };
  EXPECT_THAT(masked(), ElementsAre(false, false, false));  // dropped earlier
  filter.gibberish = "mask";
  EXPECT_THAT(masked(), ElementsAre(true, false, false));
  filter.repetition = "mask";
  EXPECT_THAT(masked(), ElementsAre(true, true, false));
}

TEST(TrainRowsTest, LayersAreGroupsOfTheirOwn) {
  std::vector<Rollout> rollouts(6, MakeRollout(VerdictStatus::kScored, 1.0));
  for (int32_t i = 0; i < 6; ++i) rollouts[static_cast<size_t>(i)].sample_index = i;
  Group layered = MakeGroup(rollouts);
  layered.task.samples = 6;
  layered.task.answers = 2;
  const std::vector<Group> groups = {layered, MakeGroup({rollouts[0], rollouts[1]})};
  const CollectedRows collected = CollectRows(groups).value();
  std::vector<int64_t> ids;
  for (const TrainRow& row : collected.rows) ids.push_back(row.group);
  EXPECT_THAT(ids, ElementsAre(0, 0, 1, 1, 2, 2, 3, 3));
}

}  // namespace
}  // namespace tramontane
