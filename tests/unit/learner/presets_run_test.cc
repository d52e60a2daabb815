// Every published recipe takes real optimiser steps on a tiny model; those that need a critic are
// refused by name.
#include <gtest/gtest.h>

#include "common/presets.h"
#include "learner_fixture.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::Sampler;
using testing::TinyModel;

RunConfig Small(const std::string& preset) {
  RunConfig config =
      ParseConfig("preset: " + preset + "\nmodel: {path: /m}\ndata: {train: /t}", "test", {})
          .value();
  config.trainer.learning_rate = 1e-2;
  config.trainer.microbatch_tokens = 64;
  return config;
}

std::vector<Group> Scored(Sampler& sampler, int64_t version) {
  std::vector<Group> groups = sampler.Groups(4, version);
  for (Group& group : groups) {
    for (Rollout& rollout : group.rollouts) rollout.verdict.correct = *rollout.verdict.score > 0;
  }
  return groups;
}

TEST(PresetsRunTest, EachTakesTwoStepsOrSaysWhatItLacks) {
  for (const std::string& name : PresetNames()) {
    SCOPED_TRACE(name);
    auto model = TinyModel(2);
    MetricsRegistry metrics;
    auto learner = Learner::Create(Small(name), model, metrics);
    if (name == "orz" || name == "vapo") {
      EXPECT_EQ(learner.status().code(), absl::StatusCode::kUnimplemented);
      continue;
    }
    ASSERT_TRUE(learner.ok()) << learner.status();
    Sampler sampler(*model, 3);
    for (int64_t step = 1; step <= 2; ++step) {
      const at::Tensor before = Flat(*model);
      const StepReport report = (*learner)->Step(Scored(sampler, step - 1), step).value();
      EXPECT_FALSE(report.skipped) << report.skip_reason;
      EXPECT_GT(report.grad_norm, 0);
      EXPECT_FALSE(at::equal(Flat(*model), before));
    }
  }
}

}  // namespace
}  // namespace tramontane
