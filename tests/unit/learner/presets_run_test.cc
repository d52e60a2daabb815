// Every published recipe takes real optimiser steps on a tiny model.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "common/presets.h"
#include "learner_fixture.h"
#include "model/model_dir.h"
#include "trainer/learner/critic.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::Sampler;
using testing::TinyModel;

std::string TeacherDir() {
  static const std::string dir = ::testing::TempDir() + "presets_run_teacher";
  static const bool made = [] {
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir + ".source");
    return SaveModelDir(*TinyModel(7), dir + ".source", dir).ok();
  }();
  EXPECT_TRUE(made);
  return dir;
}

RunConfig Small(const std::string& preset) {
  RunConfig config =
      ParseConfig("preset: " + preset + "\nmodel: {path: /m}\ndata: {train: /t}\n"
                  "distill: {teacher: " + TeacherDir() + "}", "test", {})
          .value();
  config.trainer.learning_rate = 1e-2;
  config.trainer.microbatch_tokens = 64;
  config.critic.pretrain_steps = std::min<int64_t>(config.critic.pretrain_steps, 1);
  return config;
}

std::vector<Group> Scored(Sampler& sampler, int64_t version) {
  std::vector<Group> groups = sampler.Groups(4, version);
  for (Group& group : groups) {
    for (Rollout& rollout : group.rollouts) rollout.verdict.correct = *rollout.verdict.score > 0;
  }
  return groups;
}

TEST(PresetsRunTest, EachTakesTwoSteps) {
  for (const std::string& name : PresetNames()) {
    SCOPED_TRACE(name);
    auto model = TinyModel(2);
    MetricsRegistry metrics;
    const RunConfig config = Small(name);
    auto learner = Learner::Create(config, model, metrics);
    ASSERT_TRUE(learner.ok()) << learner.status();
    Sampler sampler(*model, 3);
    for (int64_t step = 1; step <= 2 + config.critic.pretrain_steps; ++step) {
      const at::Tensor before = Flat(*model);
      const StepReport report = (*learner)->Step(Scored(sampler, step - 1), step).value();
      if (NeedsCritic(config.algorithm)) {
        EXPECT_GT(report.metrics.at("critic_updates"), 0);
      }
      if (step <= config.critic.pretrain_steps) continue;
      EXPECT_FALSE(report.skipped) << report.skip_reason;
      EXPECT_GT(report.grad_norm, 0);
      EXPECT_FALSE(at::equal(Flat(*model), before));
    }
  }
}

}  // namespace
}  // namespace tramontane
