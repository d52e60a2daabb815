// Recipes: each validates and says where it is from; a file lies over its recipe; schedules by
// step.
#include "common/presets.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/algorithm_rules.h"
#include "common/config.h"

namespace tramontane {
namespace {

constexpr char kPlaces[] = "model: {path: /m}\ndata: {train: /t}\ndistill: {teacher: /q}\n";

RunConfig Parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  auto config = ParseConfig(kPlaces + yaml, "test", overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : RunConfig();
}

std::string Error(const std::string& yaml) {
  return std::string(ParseConfig(kPlaces + yaml, "test", {}).status().message());
}

TEST(PresetsTest, EachValidatesAndNamesItsSource) {
  const std::vector<std::string> names = PresetNames();
  EXPECT_EQ(names.size(), 22u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const Preset preset = FindPreset(name).value();
    EXPECT_GT(preset.source.size(), 20u);
    const RunConfig config = Parse("preset: " + name);
    EXPECT_EQ(config.preset, name);
    EXPECT_TRUE(CheckRunnable(config.algorithm).ok());
    // The resolved configuration is a configuration again, and means the same.
    EXPECT_EQ(ToJson(ParseConfig(ToJson(config).dump(), "again", {}).value()), ToJson(config));
  }
}

TEST(PresetsTest, DefaultThenPresetThenFileThenOverride) {
  const std::string yaml =
      "preset: dapo\nrollout: {samples_per_group: 4}\nalgorithm: {objective: {clip_high: 0.4}}\n";
  const RunConfig config = Parse(yaml, {"algorithm.objective.clip_low=0.1"});
  EXPECT_EQ(config.algorithm.objective.clip_low, 0.1);       // override
  EXPECT_EQ(config.algorithm.objective.clip_high, 0.4);      // file
  EXPECT_EQ(config.rollout.samples_per_group, 4);            // file
  EXPECT_EQ(config.rollout.max_new_tokens, 20480);           // preset
  EXPECT_EQ(config.algorithm.advantage.scale, "group_std");  // preset
  EXPECT_EQ(config.trainer.adam_beta2, TrainerSection().adam_beta2);
  // An override may name the recipe, too.
  EXPECT_EQ(Parse("", {"preset=raft"}).algorithm.objective.kind, "nll");
}

TEST(PresetsTest, UnknownNamesListTheKnown) {
  const std::string error = Error("preset: dabo");
  EXPECT_NE(error.find("preset: 'dabo'"), std::string::npos) << error;
  EXPECT_NE(error.find("dapo"), std::string::npos);
}

TEST(PresetsTest, AFileTakesAScheduleAwayAsAWhole) {
  EXPECT_EQ(Parse("preset: skywork_or1").schedules.size(), 1u);
  EXPECT_TRUE(Parse("preset: skywork_or1\nschedules: {}").schedules.empty());
}

constexpr char kSchedules[] =
    "schedules:\n"
    "  rollout.max_new_tokens: {steps: [5, 9], values: [100, 200]}\n"
    "  rollout.temperature: {steps: [1, 11], values: [1.0, 0.5], interpolate: linear}\n"
    "  algorithm.objective.clip_high: {steps: [3], values: [0.5]}\n";

TEST(SchedulesTest, HoldFromAStepOnOrInterpolate) {
  const RunConfig config = Parse(std::string(kSchedules) + "rollout: {max_new_tokens: 50}");
  const auto tokens = [&](int64_t step) {
    return ConfigAtStep(config, step).rollout.max_new_tokens;
  };
  EXPECT_EQ(tokens(1), 50);
  EXPECT_EQ(tokens(4), 50);
  EXPECT_EQ(tokens(5), 100);
  EXPECT_EQ(tokens(8), 100);
  EXPECT_EQ(tokens(1000), 200);
  EXPECT_DOUBLE_EQ(ConfigAtStep(config, 6).rollout.temperature, 0.75);
  EXPECT_DOUBLE_EQ(ConfigAtStep(config, 30).rollout.temperature, 0.5);
  EXPECT_EQ(ConfigAtStep(config, 2).algorithm.objective.clip_high, 0.28);
  EXPECT_EQ(ConfigAtStep(config, 3).algorithm.objective.clip_high, 0.5);
  EXPECT_EQ(ConfigAtStep(config, 3).schedules.size(), 3u);
}

TEST(SchedulesTest, FiltersHaveTheirOwnStep) {
  const RunConfig config = Parse(
      "algorithm: {filter: {accept_high: 0.9}}\n"
      "schedules: {algorithm.filter.accept_high: {steps: [5], values: [0.5]}}");
  EXPECT_EQ(FilterAtStep(config, 4).accept_high, 0.9);
  EXPECT_EQ(FilterAtStep(config, 5).accept_high, 0.5);
  EXPECT_EQ(FilterAtStep(Parse(kSchedules), 5).accept_high, std::nullopt);
}

TEST(SchedulesTest, BadOnesAreRefusedByField) {
  const auto expect = [](const std::string& schedule, const std::string& part) {
    const std::string error = Error("schedules: {" + schedule + "}");
    EXPECT_NE(error.find(part), std::string::npos) << schedule << " → " << error;
  };
  expect("run.seed: {steps: [1], values: [2]}", "schedules.run.seed");
  expect("algorithm.objective.kind: {steps: [1], values: [2]}",
         "schedules.algorithm.objective.kind");
  expect("algorithm.~x: {steps: [1], values: [2]}", "schedules.algorithm.~x");
  expect("rollout.temperature: {steps: [1, 2], values: [1]}", "as many values as steps");
  expect("rollout.temperature: {steps: [], values: []}", "as many values as steps");
  expect("rollout.temperature: {steps: [3, 3], values: [1, 1]}", "must rise");
  expect("rollout.temperature: {steps: [0], values: [1]}", "must rise");
  expect("rollout.temperature: {steps: [1], values: [1], interpolate: cubic}", "interpolate");
  expect("trainer.groups_per_step: {steps: [1], values: [8], interpolate: linear}", "hold");
  // What the value would break is found before anything starts.
  expect("rollout.temperature: {steps: [7], values: [-1]}", "at step 7: rollout.temperature");
  expect("algorithm.objective.dual_clip: {steps: [9], values: [0.5]}", "dual_clip_is_above_one");
}

TEST(SchedulesTest, PartsOfTheRewardHaveWeightsByStep) {
  const RunConfig config = Parse(
      "reward: {terms: {accuracy: {}, short: {term: kimi_length, weight: 1}}}\n"
      "schedules:\n"
      "  reward.terms.short.weight: {steps: [3, 5], values: [0, 0.5], interpolate: linear}\n"
      "  reward.terms.accuracy.weight: {steps: [5], values: [2]}");
  using Weights = std::map<std::string, double>;
  EXPECT_EQ(RewardWeightsAtStep(config, 2), Weights());  // worth what the verifier says
  EXPECT_EQ(RewardWeightsAtStep(config, 4), (Weights{{"short", 0.25}}));
  EXPECT_EQ(RewardWeightsAtStep(config, 9), (Weights{{"accuracy", 2}, {"short", 0.5}}));
  // A weight that was written as a whole number is none.
  EXPECT_EQ(ConfigAtStep(config, 4).reward.terms.at("short").at("weight"), 0.25);
  const RunConfig table = Parse("schedules: {reward.correct: {steps: [1], values: [0.5]}}");
  EXPECT_EQ(RewardWeightsAtStep(table, 1), (Weights{{"correct", 0.5}}));
  EXPECT_EQ(RewardWeightsAtStep(Parse(kSchedules), 9), Weights());
}

TEST(SchedulesTest, WeightsOfNoPartOfTheRewardAreRefused) {
  const auto expect = [](const std::string& yaml, const std::string& part) {
    const std::string error = Error(yaml);
    EXPECT_NE(error.find(part), std::string::npos) << yaml << " → " << error;
  };
  const std::string rule = "rule scheduled_reward_has_a_part";
  expect("schedules: {reward.terms.short.weight: {steps: [1], values: [2]}}", rule);
  expect("schedules: {reward.think_open: {steps: [1], values: [2]}}", rule);
  expect("schedules: {reward.language: {steps: [1], values: [0.1]}}", rule);
  expect("reward: {terms: {accuracy: {}}}\nschedules: {reward.correct: {steps: [1], values: [1]}}",
         rule);
  expect("schedules: {reward.correct: {steps: [4], values: [-1]}}", "at step 4: reward.correct");
  expect("schedules: {reward.correct: {steps: [4], values: [.inf]}}", "must be finite");
}

}  // namespace
}  // namespace tramontane
