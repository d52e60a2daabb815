#include "verifier/reward_table.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace tramontane {
namespace {

RewardSection WithLength() {
  RewardSection reward;
  reward.length_penalty = 0.1;
  reward.length_max_tokens = 100;
  reward.length_cache_tokens = 20;
  return reward;
}

// Every cell of gate × correct × length.
TEST(RewardTableTest, EveryCellOfTheTruthTable) {
  struct Cell {
    bool gate, correct;
    int32_t tokens;
    double score;
  };
  const Cell cells[] = {
      {true, true, 0, 1.0},    {true, true, 80, 1.0},   {true, true, 81, 0.995},
      {true, true, 90, 0.95},  {true, true, 100, 0.9},  {true, true, 101, 0.9},
      {true, true, 1000000, 0.9},
      {true, false, 0, 0.1},   {true, false, 80, 0.1},  {true, false, 81, 0.095},
      {true, false, 90, 0.05}, {true, false, 100, 0.0}, {true, false, 1000000, 0.0},
      {false, true, 0, 0.0},   {false, true, 90, 0.0},  {false, true, 1000000, 0.0},
      {false, false, 0, 0.0},  {false, false, 90, 0.0}, {false, false, 1000000, 0.0},
  };
  for (const Cell& cell : cells) {
    Verdict verdict;
    ApplyRewardTable(cell.gate, cell.correct, 0, cell.tokens, WithLength(), verdict);
    EXPECT_EQ(verdict.status, VerdictStatus::kScored);
    ASSERT_TRUE(verdict.score);
    EXPECT_NEAR(*verdict.score, cell.score, 1e-12)
        << cell.gate << cell.correct << " " << cell.tokens;
    double sum = 0;
    for (const auto& [name, value] : verdict.components) sum += value;
    EXPECT_NEAR(sum, *verdict.score, 1e-12);
    EXPECT_EQ(verdict.components.size(), RewardComponents(WithLength()).size());
    EXPECT_GE(*verdict.score, MinReward(WithLength()));
    EXPECT_LE(*verdict.score, MaxReward(WithLength()));
  }
}

// Magistral's full table: 1.1 at the most.
TEST(RewardTableTest, OneLanguageThroughoutAddsItsBonusBehindTheGate) {
  RewardSection reward = WithLength();
  reward.language = 0.1;
  Verdict verdict;
  ApplyRewardTable(true, 1, 1, 0, reward, verdict);
  EXPECT_NEAR(*verdict.score, 1.1, 1e-12);
  EXPECT_NEAR(MaxReward(reward), 1.1, 1e-12);
  EXPECT_EQ(verdict.components.at("language"), 0.1);
  ApplyRewardTable(true, 0, 1, 1000, reward, verdict);
  EXPECT_NEAR(*verdict.score, 0.1, 1e-12);
  ApplyRewardTable(false, 1, 1, 0, reward, verdict);
  EXPECT_EQ(*verdict.score, 0);
}

TEST(RewardTableTest, WithoutALengthPenaltyLengthCostsNothing) {
  Verdict verdict;
  ApplyRewardTable(true, 1, 0, std::numeric_limits<int32_t>::max(), RewardSection{}, verdict);
  EXPECT_EQ(*verdict.score, 1.0);
  EXPECT_FALSE(verdict.components.contains("length"));
}

TEST(RewardTableTest, RefusesSettingsThatCannotWorkAndNamesThem) {
  const auto message = [](const RewardSection& reward) {
    const absl::Status status = ValidateReward(reward);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  RewardSection reward;
  reward.language = -0.1;
  EXPECT_NE(message(reward).find("reward.language"), std::string::npos);
  reward = {};
  reward.terms["accuracy"] = {{"weight", 1}};
  reward.language = 0.1;
  EXPECT_NE(message(reward).find("reward.terms"), std::string::npos);
  reward = {};
  reward.length_penalty = 0.1;
  EXPECT_NE(message(reward).find("reward.length_cache_tokens"), std::string::npos);
  reward = WithLength();
  reward.length_cache_tokens = 101;
  EXPECT_NE(message(reward).find("reward.length_max_tokens"), std::string::npos);
  reward = {};
  reward.correct = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(message(reward).find("reward.correct"), std::string::npos);
  reward = {};
  reward.format = -1;
  EXPECT_NE(message(reward).find("reward.format"), std::string::npos);
  reward = {};
  reward.think_close = "";
  EXPECT_NE(message(reward).find("reward.think_open"), std::string::npos);
  EXPECT_TRUE(ValidateReward(WithLength()).ok());
  EXPECT_TRUE(ValidateReward(RewardSection{}).ok());
}

}  // namespace
}  // namespace tramontane
