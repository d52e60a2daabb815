#include "services/generator/live_groups.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

using Verdicts = LiveGroups::Verdicts;

LiveGroupPtr Open(LiveGroups& groups, int32_t samples, int64_t delivery = 1) {
  Lease lease;
  lease.gid = "g";
  lease.delivery = delivery;
  GroupTask task;
  task.gid = "g";
  task.samples = samples;
  return groups.Open(std::move(lease), std::move(task));
}

Rollout Sample(int32_t index) {
  Rollout rollout;
  rollout.sample_index = index;
  rollout.text = "sample " + std::to_string(index);
  return rollout;
}

Verdict Scored(double score) {
  Verdict verdict;
  verdict.status = VerdictStatus::kScored;
  verdict.score = score;
  return verdict;
}

TEST(LiveGroups, AGroupIsCompleteWithItsLastVerdictInWhateverOrder) {
  LiveGroups groups;
  const LiveGroupPtr group = Open(groups, 2);
  EXPECT_EQ(groups.unsampled(), 2);
  EXPECT_TRUE(groups.SampleDone(group, Sample(1)));
  EXPECT_EQ(groups.unsampled(), 1);
  EXPECT_EQ(groups.VerdictDone(group, 1, Scored(1)), Verdicts::kMissing);
  EXPECT_TRUE(groups.SampleDone(group, Sample(0)));
  EXPECT_EQ(groups.Sample(group, 0).text, "sample 0");
  EXPECT_EQ(groups.unsampled(), 0);
  EXPECT_EQ(groups.open_groups(), 1);  // until the queue has it
  EXPECT_EQ(groups.VerdictDone(group, 0, Scored(0)), Verdicts::kComplete);
  const Group record = groups.Take(group, "generator-7");
  EXPECT_EQ(record.generator_id, "generator-7");
  ASSERT_EQ(record.rollouts.size(), 2u);
  EXPECT_EQ(record.rollouts[0].text, "sample 0");
  EXPECT_EQ(record.rollouts[1].verdict.score, 1);
  EXPECT_TRUE(groups.Close(group));
  EXPECT_EQ(groups.open_groups(), 0);
}

TEST(LiveGroups, VerdictsOfTwoVerifierVersionsAreAskedForAgain) {
  LiveGroups groups;
  const LiveGroupPtr group = Open(groups, 2);
  Verdict old_version = Scored(1), new_version = Scored(0);
  old_version.verifier_digest = "a";
  new_version.verifier_digest = "b";
  for (int32_t i : {0, 1}) EXPECT_TRUE(groups.SampleDone(group, Sample(i)));
  EXPECT_EQ(groups.VerdictDone(group, 0, old_version), Verdicts::kMissing);
  EXPECT_EQ(groups.VerdictDone(group, 1, new_version), Verdicts::kMixed);
  EXPECT_EQ(group->rescored, 1);
  EXPECT_EQ(groups.VerdictDone(group, 0, new_version), Verdicts::kMissing);
  EXPECT_EQ(groups.VerdictDone(group, 1, new_version), Verdicts::kComplete);
}

TEST(LiveGroups, WhatArrivesForAClosedGroupIsIgnored) {
  LiveGroups groups;
  const LiveGroupPtr group = Open(groups, 3);
  EXPECT_TRUE(groups.SampleDone(group, Sample(0)));
  EXPECT_TRUE(groups.Close(group));
  EXPECT_FALSE(groups.Close(group));
  EXPECT_EQ(groups.unsampled(), 0);  // two were owed, nobody wants them now
  EXPECT_FALSE(groups.SampleDone(group, Sample(1)));
  EXPECT_EQ(groups.VerdictDone(group, 0, Scored(1)), Verdicts::kMissing);
  EXPECT_EQ(groups.unsampled(), 0);
}

TEST(LiveGroups, TwoDeliveriesOfOneGroupDoNotMeet) {
  LiveGroups groups;
  const LiveGroupPtr first = Open(groups, 1, 1);
  const LiveGroupPtr second = Open(groups, 1, 2);
  EXPECT_NE(first->request_id, second->request_id);
  EXPECT_EQ(groups.OpenGroups().size(), 2u);
  EXPECT_TRUE(groups.Close(first));
  EXPECT_TRUE(groups.SampleDone(second, Sample(0)));
  EXPECT_EQ(groups.VerdictDone(second, 0, Scored(1)), Verdicts::kComplete);
}

}  // namespace
}  // namespace tramontane
