#include "trainer/learner/schedule.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

TEST(ScheduleTest, WarmupIsLinearAndThenConstant) {
  TrainerSection trainer;
  trainer.learning_rate = 1e-3;
  trainer.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 100, 1), 0.25e-3);
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 100, 4), 1e-3);
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 100, 100), 1e-3);
  trainer.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 100, 1), 1e-3);
}

TEST(ScheduleTest, LinearScheduleEndsAtMaxSteps) {
  TrainerSection trainer;
  trainer.learning_rate = 1;
  trainer.schedule = "linear";
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 9, 1), 0.9);
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 9, 9), 0.1);
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 9, 10), 0);
  EXPECT_DOUBLE_EQ(RlLearningRate(trainer, 9, 50), 0);
}

TEST(ScheduleTest, SftDecaysOverItsLastShare) {
  SftSection sft;
  sft.learning_rate = 1;
  sft.steps = 100;
  sft.warmup_steps = 10;
  sft.decay_fraction = 0.5;
  EXPECT_DOUBLE_EQ(SftLearningRate(sft, 5), 0.5);
  EXPECT_DOUBLE_EQ(SftLearningRate(sft, 30), 1);
  EXPECT_DOUBLE_EQ(SftLearningRate(sft, 51), 1);
  EXPECT_DOUBLE_EQ(SftLearningRate(sft, 76), 0.5);
  EXPECT_DOUBLE_EQ(SftLearningRate(sft, 100), 0.02);
  sft.decay_fraction = 0;
  EXPECT_DOUBLE_EQ(SftLearningRate(sft, 100), 1);
}

}  // namespace
}  // namespace tramontane
