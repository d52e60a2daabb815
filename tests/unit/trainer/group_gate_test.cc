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

TEST(GroupGate, TakesOutSamplesThatSayNothingAboutThePolicy) {
  std::vector<Rollout> rollouts(9, Sample(1));
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

}  // namespace
}  // namespace tramontane
