#include "trainer/learner/entropy_control.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "common/files.h"
#include "trainer/learner/learner_state.h"

namespace tramontane {
namespace {

EntropyConfig Adaptive() {
  EntropyConfig config;
  config.kind = "adaptive";
  config.coefficient = 0;
  config.target = 0.2;
  config.step = 0.01;
  config.max = 0.015;
  return config;
}

TEST(EntropyControlTest, FollowsAScriptOfEntropies) {
  const EntropyConfig config = Adaptive();
  EntropyControl control = EntropyControl::Start(config);
  EXPECT_EQ(control.Applied(config), 0);  // nothing is known yet
  struct Expected {
    double entropy, coefficient, applied;
  };
  // Climbs while low, is held at max, steps back and acts no more while high.
  for (const Expected& e : {Expected{.1, .01, .01},
                            {.1, .015, .015},
                            {.3, .005, 0},
                            {.3, 0, 0},
                            {.1, .01, .01},
                            {.2, .015, .015}}) {
    control.Observe(config, e.entropy);
    EXPECT_NEAR(control.coefficient, e.coefficient, 1e-15);
    EXPECT_NEAR(control.Applied(config), e.applied, 1e-15);
  }
}

TEST(EntropyControlTest, FixedAndNoneDoNotMove) {
  EntropyConfig config;
  config.coefficient = 0.3;
  EntropyControl control = EntropyControl::Start(config);
  EXPECT_EQ(control.Applied(config), 0);
  config.kind = "fixed";
  control.Observe(config, 0);
  EXPECT_EQ(control.Applied(config), 0.3);
}

TEST(LearnerStateTest, SurvivesAFileAndRefusesOthers) {
  const std::string dir = ::testing::TempDir() + "/learner_state";
  ASSERT_TRUE(MakeDirs(dir).ok());
  std::filesystem::remove(dir + "/learner.json");
  EXPECT_TRUE(absl::IsNotFound(LoadLearnerState(dir).status()));
  LearnerState state;
  ASSERT_TRUE(SaveLearnerState(dir, state).ok());
  EXPECT_EQ(LoadLearnerState(dir)->entropy.last_entropy, state.entropy.last_entropy);  // infinite
  state = {.entropy = {.coefficient = 0.1, .last_entropy = 1.0 / 3}, .reference_version = 7};
  ASSERT_TRUE(SaveLearnerState(dir, state).ok());
  const LearnerState loaded = LoadLearnerState(dir).value();
  EXPECT_EQ(loaded.entropy.coefficient, 0.1);
  EXPECT_EQ(loaded.entropy.last_entropy, 1.0 / 3);
  EXPECT_EQ(loaded.reference_version, 7);
  for (const char* text : {"", "[]", "{\"format_version\": 2}",
                           "{\"format_version\": 1, \"entropy_coefficient\": \"a\"}"}) {
    ASSERT_TRUE(WriteFileAtomic(dir + "/learner.json", text).ok());
    EXPECT_TRUE(absl::IsDataLoss(LoadLearnerState(dir).status())) << text;
  }
}

}  // namespace
}  // namespace tramontane
