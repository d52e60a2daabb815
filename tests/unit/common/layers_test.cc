// Groups of two layers: which sample is compared with which, and what a verifier sees.
#include "common/layers.h"

#include <gmock/gmock.h>

namespace tramontane {
namespace {

using ::testing::ElementsAre;

GroupTask Task(int32_t answers, int32_t samples, bool by_prompt = false) {
  GroupTask task;
  task.answers = answers;
  task.samples = samples;
  task.corrections_by_prompt = by_prompt;
  return task;
}

TEST(LayersTest, CorrectionsAreGroupsOfTheirOwn) {
  const GroupTask task = Task(2, 8);  // two answers, three corrections of each
  std::vector<int64_t> parts;
  for (int32_t i = 0; i < task.samples; ++i) parts.push_back(PartOf(task, i));
  EXPECT_THAT(parts, ElementsAre(0, 0, 1, 1, 1, 2, 2, 2));
  EXPECT_EQ(PartsOf(task), 3);
  EXPECT_EQ(AnswerOf(task, 4), 0);
  EXPECT_EQ(AnswerOf(task, 5), 1);
  EXPECT_EQ(PartOf(Task(2, 8, true), 7), 1);
  EXPECT_EQ(PartsOf(Task(2, 8, true)), 2);
  EXPECT_EQ(PartOf(Task(0, 8), 7), 0);
  EXPECT_EQ(PartsOf(Task(0, 8)), 1);
  EXPECT_FALSE(IsCorrection(Task(0, 8), 7));
}

TEST(LayersTest, AVerifierSeesTheCorrectionAlone) {
  Rollout rollout;
  rollout.tokens = {1, 2, 3, 4, 5};
  rollout.logprobs = {0, 0, 0, -1, -2};
  rollout.spans = {{3, 4}, {4, 1}};
  rollout.injected = {{0, 3}};
  rollout.usage = {.thinking = 0, .answer = 2, .injected = 3};
  const Rollout alone = CorrectionAlone(rollout);
  EXPECT_THAT(alone.tokens, ElementsAre(4, 5));
  EXPECT_THAT(alone.logprobs, ElementsAre(-1, -2));
  EXPECT_THAT(alone.spans, ElementsAre(VersionSpan{3, 1}, VersionSpan{4, 1}));
  EXPECT_TRUE(alone.injected.empty());
  EXPECT_EQ(alone.usage.injected, 0);
  EXPECT_TRUE(CorrectionAlone(Rollout()).tokens.empty());
}

TEST(LayersTest, AStoredCorrectionNeedsNoLogprobsAndVersions) {
  Rollout stored;
  stored.tokens = {1, 2, 3, 4, 5};
  stored.injected = {{0, 2}, {4, 1}};
  const Rollout alone = CorrectionAlone(stored);
  EXPECT_THAT(alone.tokens, ElementsAre(3, 4, 5));
  EXPECT_THAT(alone.injected, ElementsAre(TokenSpan{2, 1}));
  EXPECT_EQ(alone.usage.injected, 1);
  stored.injected = {{0, 9}};  // more than there is: the file was cut
  EXPECT_TRUE(CorrectionAlone(stored).tokens.empty());
}

}  // namespace
}  // namespace tramontane
