// Which samples rejection sampling keeps.
#include "trainer/ledger/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tramontane {
namespace {

using testing::ElementsAre;

Rollout Sample(int32_t index, double reward, bool correct, size_t length,
               FinishReason finish = FinishReason::kStop) {
  Rollout rollout;
  rollout.sample_index = index;
  rollout.tokens.assign(length, index + 10);
  rollout.text = "s" + std::to_string(index);
  rollout.finish_reason = finish;
  rollout.verdict.status = VerdictStatus::kScored;
  rollout.verdict.score = reward;
  rollout.verdict.correct = correct;
  return rollout;
}

// In the order in which they finished.
Group Mixed() {
  Group group;
  group.task.row.row_id = "r";
  group.task.row.prompt = "p";
  group.task.row.prompt_tokens = {1, 2};
  group.rollouts = {Sample(3, 1.0, true, 4),  Sample(0, 0.9, true, 10), Sample(1, 0.1, false, 3),
                    Sample(2, 0.0, false, 9), Sample(4, 1.1, true, 2, FinishReason::kLength),
                    Sample(5, 0.5, true, 5)};
  return group;
}

std::vector<std::string> Kept(const std::string& keep, int32_t most = 9, double ratio = 1.5) {
  std::vector<std::string> kept;
  for (const Json& row : SelectRows(Mixed(), {keep, most, ratio}, "t")) {
    kept.push_back(row.contains("chosen") ? row.value("chosen", "") + ">" + row.value("rejected", "")
                                          : row.value("completion", ""));
  }
  return kept;
}

TEST(SelectionTest, RightAnswersByLengthOrByTheirTurn) {
  EXPECT_THAT(Kept("shortest_correct"), ElementsAre("s3", "s5", "s0"));
  EXPECT_THAT(Kept("shortest_correct", 1), ElementsAre("s3"));
  EXPECT_THAT(Kept("first_correct", 2), ElementsAre("s0", "s3"));
  EXPECT_THAT(Kept("all_correct"), ElementsAre("s0", "s3", "s5"));
  EXPECT_THAT(Kept("best", 2), ElementsAre("s3", "s0"));  // s4 is better, and cut off
}

TEST(SelectionTest, PairsOfTheBestAndTheWorst) {
  EXPECT_THAT(Kept("pairs_best_worst"), ElementsAre("s3>s2"));
  Group equal = Mixed();
  for (Rollout& rollout : equal.rollouts) rollout.verdict.score = 1;
  EXPECT_TRUE(SelectRows(equal, {"pairs_best_worst"}, "t").empty());
}

TEST(SelectionTest, PairsOfTheShortestRightAnswerAndWhatIsTooLong) {
  // s1 is wrong but shorter; s5 is right and not 1.5 times as long.
  EXPECT_THAT(Kept("pairs_short_long"), ElementsAre("s3>s0", "s3>s2"));
  EXPECT_THAT(Kept("pairs_short_long", 9, 1.25), ElementsAre("s3>s0", "s3>s2", "s3>s5"));
}

TEST(SelectionTest, NothingRightOrNothingScoredGivesNothing) {
  Group group = Mixed();
  for (Rollout& rollout : group.rollouts) rollout.verdict.correct = false;
  EXPECT_TRUE(SelectRows(group, {"shortest_correct"}, "t").empty());
  EXPECT_TRUE(SelectRows(group, {"pairs_short_long"}, "t").empty());
  Group silent = Mixed();
  for (Rollout& rollout : silent.rollouts) rollout.text.clear();  // an end token alone
  EXPECT_TRUE(SelectRows(silent, {"shortest_correct"}, "t").empty());
  EXPECT_TRUE(SelectRows(silent, {"pairs_best_worst"}, "t").empty());
  for (Rollout& rollout : group.rollouts) rollout.verdict.score.reset();
  EXPECT_TRUE(SelectRows(group, {"best"}, "t").empty());
  EXPECT_TRUE(SelectRows(group, {"pairs_best_worst"}, "t").empty());
}

TEST(SelectionTest, RowsCarryTheIdsThatWereSampled) {
  const Json row = SelectRows(Mixed(), {"shortest_correct"}, "sha").at(0);
  EXPECT_EQ(row["id"], "r");
  EXPECT_EQ(row["prompt"], "p");
  EXPECT_EQ(row["prompt_tokens"], Json({1, 2}));
  EXPECT_EQ(row["completion_tokens"], Json({13, 13, 13, 13}));
  EXPECT_EQ(row["tokenizer"], "sha");
  EXPECT_EQ(row["reward"], 1.0);
}

}  // namespace
}  // namespace tramontane
