// When a run ends, also across a resume.
#include "trainer/loop/exit_rules.h"

#include <gtest/gtest.h>

#include "trainer/loop/held_out_exit.h"

namespace tramontane {
namespace {

RunSection Section() {
  RunSection run;
  run.max_steps = 100;
  return run;
}

TEST(ExitRulesTest, MaxStepsAndSeconds) {
  RunSection run = Section();
  run.stop_seconds = 60;
  const ExitRules exits(run, Json::object());
  EXPECT_EQ(exits.Reason(99, 59), "");
  EXPECT_EQ(exits.Reason(100, 0), "max_steps");
  EXPECT_EQ(exits.Reason(3, 60), "stop_seconds");
}

TEST(ExitRulesTest, TheMeanRewardOfAFullWindow) {
  RunSection run = Section();
  run.stop_reward = 0.5;
  run.stop_reward_window_steps = 3;
  ExitRules exits(run, Json::object());
  exits.StepDone(0.9);
  exits.StepDone(0.9);
  EXPECT_EQ(exits.Reason(2, 0), "");  // not full
  exits.StepDone(0.0);
  EXPECT_EQ(exits.Reason(3, 0), "stop_reward");
  exits.StepDone(0.2);
  EXPECT_EQ(exits.Reason(4, 0), "");  // the first has left it
}

TEST(ExitRulesTest, HeldOutAccuracyIsReachedOrNoLongerRises) {
  RunSection run = Section();
  run.stop_accuracy = 0.8;
  run.stop_stale_evaluations = 2;
  ExitRules exits(run, Json::object());
  for (double accuracy : {0.5, 0.4, 0.6, 0.6}) exits.Evaluated(accuracy);
  EXPECT_EQ(exits.Reason(1, 0), "");
  ExitRules reached = exits;
  reached.Evaluated(0.8);
  EXPECT_EQ(reached.Reason(1, 0), "stop_accuracy");
  exits.Evaluated(0.59);
  EXPECT_EQ(exits.Reason(1, 0), "stop_stale_evaluations");
}

TEST(ExitRulesTest, AResumedRunEndsWhereItWouldHave) {
  RunSection run = Section();
  run.stop_reward = 0.5;
  run.stop_reward_window_steps = 2;
  run.stop_stale_evaluations = 2;
  ExitRules before(run, Json::object());
  before.StepDone(0.6);
  before.Evaluated(0.7);
  before.Evaluated(0.7);
  ExitRules rewards(run, Json::parse(before.ToJson().dump())), evaluations = rewards;
  EXPECT_EQ(rewards.Reason(1, 0), "");
  rewards.StepDone(0.4);
  EXPECT_EQ(rewards.Reason(2, 0), "stop_reward");
  evaluations.Evaluated(0.7);
  EXPECT_EQ(evaluations.Reason(2, 0), "stop_stale_evaluations");
}

TEST(HeldOutExitTest, EndsAtALossOrWhenItNoLongerFalls) {
  SftSection sft;
  sft.stop_loss = 0.5;
  sft.stop_stale_evaluations = 2;
  HeldOutExit exit(sft, Json());
  EXPECT_EQ(exit.Reason(), "");
  exit.Evaluated(1.0);
  exit.Evaluated(1.0);  // not below the least
  EXPECT_EQ(exit.Reason(), "");
  exit.Evaluated(0.9);
  EXPECT_EQ(exit.stale_evaluations(), 0);
  exit.Evaluated(1.5);
  // What was counted is in the checkpoint.
  HeldOutExit resumed(sft, exit.ToJson());
  EXPECT_EQ(resumed.Reason(), "");
  resumed.Evaluated(0.95);
  EXPECT_EQ(resumed.Reason(), "stop_stale_evaluations");
  resumed.Evaluated(0.5);
  EXPECT_EQ(resumed.Reason(), "stop_loss");
  sft.stop_loss = 0;
  sft.stop_stale_evaluations = 0;
  EXPECT_EQ(HeldOutExit(sft, resumed.ToJson()).Reason(), "");
}

}  // namespace
}  // namespace tramontane
