#include "trainer/ledger/group_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace tramontane {
namespace {

Rollout Sample(double score, int64_t version = 5) {
  Rollout rollout;
  rollout.tokens = {1, 2, 3};
  rollout.logprobs = {-1, -1, -1};
  rollout.spans = {{version, 3}};
  rollout.finish_reason = FinishReason::kStop;
  rollout.verdict.status = VerdictStatus::kScored;
  rollout.verdict.score = score;
  rollout.verdict.correct = score > 0.5;
  return rollout;
}

Group GroupOf(std::vector<Rollout> rollouts) {
  Group group;
  group.task.samples = static_cast<int32_t>(rollouts.size());
  group.task.issued_version = 5;
  group.rollouts = std::move(rollouts);
  return group;
}

const StalenessGate kGate(2, 8);

TEST(StalenessGate, AdmitsAsManyAsCannotBecomeTooOld) {
  EXPECT_EQ(kGate.Capacity(0, 0, 0), 24);
  EXPECT_EQ(kGate.Capacity(0, 10, 14), 0);
  EXPECT_EQ(kGate.Capacity(3, 24 + 4, 12), 8);
  EXPECT_TRUE(kGate.Fresh(3, 5));
  EXPECT_FALSE(kGate.Fresh(2, 5));
}

TEST(GroupGate, RefusesGroupsThatTwoVersionsOfAVerifierJudged) {
  std::vector<Rollout> rollouts = {Sample(1), Sample(0), Sample(0)};
  rollouts[0].verdict.verifier_digest = rollouts[1].verdict.verifier_digest = "a";
  EXPECT_EQ(RejectReason(GroupOf(rollouts), FilterConfig(), kGate, 5), "") << "no digest is no other one";
  rollouts[2].verdict.verifier_digest = "b";
  EXPECT_EQ(RejectReason(GroupOf(rollouts), FilterConfig(), kGate, 5), "mixed_verifiers");
}

TEST(StalenessGate, CountsTheGroupsOfAPlanThatChanges) {
  const BatchPlan plan({{1, 8}, {4, 4}, {6, 2}});
  const int64_t expected[] = {8, 16, 24, 28, 32, 34, 36};
  for (int64_t step = 1; step <= 7; ++step) EXPECT_EQ(plan.Through(step), expected[step - 1]) << step;
  EXPECT_EQ(plan.Through(0), 0);
  EXPECT_EQ(plan.At(3), 8);
  EXPECT_EQ(plan.At(4), 4);
  EXPECT_EQ(plan.At(100), 2);
  EXPECT_EQ(plan.largest(), 8);
  // At version 3, up to two versions ahead: steps 1 … 6.
  EXPECT_EQ(StalenessGate(2, plan).Capacity(3, 24, 4), 34 - 28);
}

TEST(GroupGate, TakesOutSamplesThatSayNothingAboutThePolicy) {
  std::vector<Rollout> rollouts(10, Sample(1));
  rollouts[9].finish_reason = FinishReason::kTimeout;
  rollouts[9].verdict.score.reset();
  rollouts[0].finish_reason = FinishReason::kAborted;
  rollouts[1].finish_reason = FinishReason::kError;
  rollouts[2].verdict.status = VerdictStatus::kInfraFailure;
  rollouts[2].verdict.score.reset();
  rollouts[3].verdict.status = VerdictStatus::kTimeout;
  rollouts[3].verdict.score.reset();
  rollouts[4].verdict.score.reset();
  rollouts[5].verdict.score = std::numeric_limits<double>::quiet_NaN();
  rollouts[6].tokens.clear();
  rollouts[7].verdict.status = VerdictStatus::kPolicyFailure;
  rollouts[7].verdict.score = 0;
  Group group = GroupOf(rollouts);
  const auto removed = RemoveInvalidSamples(group, FilterConfig());
  EXPECT_EQ(group.rollouts.size(), 2u);  // the policy's own failure is a lesson
  EXPECT_EQ(removed.at("aborted"), 1);
  EXPECT_EQ(removed.at("generation_error"), 1);
  EXPECT_EQ(removed.at("generation_timeout"), 1);
  EXPECT_EQ(removed.at("infra_failure"), 1);
  EXPECT_EQ(removed.at("verifier_timeout"), 1);
  EXPECT_EQ(removed.at("no_score"), 2);
  EXPECT_EQ(removed.at("empty"), 1);
}

TEST(GroupGate, TruncatedSamplesStayUnlessTheyAreToBeDropped) {
  Rollout cut = Sample(0);
  cut.finish_reason = FinishReason::kLength;
  FilterConfig filter;
  for (const char* mode : {"keep", "mask_after", "mask_before", "drop"}) {
    filter.truncated = mode;
    Group group = GroupOf({Sample(1), Sample(1), cut});
    RemoveInvalidSamples(group, filter);
    EXPECT_EQ(group.rollouts.size(), std::string(mode) == "drop" ? 2u : 3u) << mode;
    // Without the truncated sample all are alike.
    const bool alike = std::string(mode) == "drop" || std::string(mode) == "mask_before";
    EXPECT_EQ(RejectReason(group, filter, kGate, 5), alike ? "zero_variance" : "") << mode;
  }
}

TEST(GroupGate, DropsGroupsThatTeachNothing) {
  FilterConfig filter;
  EXPECT_EQ(RejectReason(GroupOf({Sample(1), Sample(1)}), filter, kGate, 5), "zero_variance");
  EXPECT_EQ(RejectReason(GroupOf({Sample(1), Sample(0)}), filter, kGate, 5), "");
  // Shaping alone makes a difference in reward, not in accuracy.
  EXPECT_EQ(RejectReason(GroupOf({Sample(1), Sample(0.9)}), filter, kGate, 5), "");
  filter.on = "accuracy";
  EXPECT_EQ(RejectReason(GroupOf({Sample(1), Sample(0.9)}), filter, kGate, 5), "zero_variance");
  filter.zero_variance = "keep";
  EXPECT_EQ(RejectReason(GroupOf({Sample(1), Sample(1)}), filter, kGate, 5), "");
}

TEST(GroupGate, NeedsTwoValidSamplesOfAGroupThatHadThem) {
  Group one_left = GroupOf({Sample(1), Sample(0)});
  one_left.rollouts.pop_back();
  EXPECT_EQ(RejectReason(one_left, FilterConfig(), kGate, 5), "too_few_valid");
  EXPECT_EQ(RejectReason(GroupOf({Sample(1)}), FilterConfig(), kGate, 5), "");
  EXPECT_EQ(RejectReason(GroupOf({}), FilterConfig(), kGate, 5), "too_few_valid");
}

TEST(GroupGate, JudgesAgeByTheOldestToken) {
  Rollout spanning = Sample(0, 3);
  spanning.spans = {{2, 1}, {5, 2}};
  EXPECT_EQ(OldestVersion(GroupOf({Sample(1, 5), spanning})), 2);
  EXPECT_EQ(RejectReason(GroupOf({Sample(1, 5), spanning}), FilterConfig(), kGate, 5), "stale");
  EXPECT_EQ(RejectReason(GroupOf({Sample(1, 3), Sample(0, 5)}), FilterConfig(), kGate, 5), "");
  EXPECT_EQ(RejectReason(GroupOf({Sample(1, 5), Sample(0, 6)}), FilterConfig(), kGate, 5), "future_version");
}

TEST(GroupGate, GibberishAndRepetitionAreRemovedOnlyWhereTheRulesAreOn) {
  std::vector<Rollout> rollouts(5, Sample(1));
  rollouts[0].tokens[1] = 100000;
  rollouts[0].logprobs[1] = -13.8f;  // rare and unlikely
  rollouts[1].tokens[1] = 100000;
  rollouts[1].logprobs[1] = -13.7f;  // rare, but not unlikely enough
  rollouts[2].logprobs[1] = -20;     // unlikely, but not rare
  rollouts[3].logprobs = {-0.001f, -0.001f, -1};
  rollouts[4].logprobs = {-0.001f, 0, -0.001f};  // an injected token breaks the run
  rollouts[4].injected = {{1, 1}};
  Group all = GroupOf(rollouts);
  EXPECT_TRUE(RemoveInvalidSamples(all, FilterConfig()).empty());

  FilterConfig filter;
  filter.gibberish_token_min = 100000;
  filter.repetition_window = 2;
  Group group = GroupOf(rollouts);
  const std::map<std::string, int64_t> expected = {{"gibberish", 1}, {"repetition", 1}};
  EXPECT_EQ(RemoveInvalidSamples(group, filter), expected);
  EXPECT_EQ(group.rollouts.size(), 3u);
}

TEST(GroupGate, GroupsOutsideTheAcceptanceWindowAreDropped) {
  FilterConfig filter;
  filter.accept_low = 0.25;
  filter.accept_high = 0.5;
  const auto reason = [&](int right) {
    std::vector<Rollout> rollouts(4, Sample(0));
    for (int i = 0; i < right; ++i) rollouts[i] = Sample(1);
    return RejectReason(GroupOf(rollouts), filter, kGate, 5);
  };
  EXPECT_EQ(reason(0), "pass_rate");
  EXPECT_EQ(reason(1), "");
  EXPECT_EQ(reason(2), "");
  EXPECT_EQ(reason(3), "pass_rate");
}

TEST(GroupGate, MaskedFaultsStayInTheGroup) {
  std::vector<Rollout> rollouts(3, Sample(1));
  rollouts[0].tokens[1] = 100000;
  rollouts[0].logprobs[1] = -13.8f;
  rollouts[1].logprobs = {-0.001f, -0.001f, -1};
  FilterConfig filter;
  filter.gibberish_token_min = 100000;
  filter.repetition_window = 2;
  filter.gibberish = "mask";
  Group group = GroupOf(rollouts);
  EXPECT_EQ(RemoveInvalidSamples(group, filter),
            (std::map<std::string, int64_t>{{"repetition", 1}}));
  filter.repetition = "mask";
  group = GroupOf(rollouts);
  EXPECT_TRUE(RemoveInvalidSamples(group, filter).empty());
}

TEST(GroupGate, ASampleThatWasStoppedForRepeatingItselfHasItsReward) {
  Rollout stopped = Sample(-1);
  stopped.finish_reason = FinishReason::kRepetition;
  FilterConfig filter;
  filter.truncated = "drop";  // it is not one that was cut at the limit
  Group group = GroupOf({Sample(1), stopped});
  EXPECT_TRUE(RemoveInvalidSamples(group, filter).empty());
  EXPECT_EQ(RejectReason(group, filter, kGate, 5), "");
}

TEST(GroupGate, LayersAreComparedApart) {
  Group group = GroupOf({Sample(1), Sample(1), Sample(0), Sample(0), Sample(0), Sample(0)});
  for (int32_t i = 0; i < 6; ++i) group.rollouts[static_cast<size_t>(i)].sample_index = i;
  group.task.answers = 2;
  FilterConfig filter;
  // Each part is alike in itself: that answers fared better than corrections teaches nothing.
  EXPECT_EQ(RejectReason(group, filter, kGate, 5), "zero_variance");
  group.rollouts[5].verdict = Sample(1).verdict;
  EXPECT_EQ(RejectReason(group, filter, kGate, 5), "");
  // How hard the prompt is, answers say.
  filter.accept_low = filter.accept_high = 1;
  EXPECT_EQ(RejectReason(group, filter, kGate, 5), "");
}

}  // namespace
}  // namespace tramontane
