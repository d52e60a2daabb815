#include "trainer/loop/step_recorder.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/files.h"
#include "tests/support/redis_server.h"
#include "tests/unit/trainer/loop_fakes.h"

namespace tramontane {
namespace {

class StepRecorderTest : public testing::Test {
 protected:
  StepFacts Facts(int64_t step) {
    StepFacts facts;
    facts.report.step = step;
    return facts;
  }

  MetricsRegistry metrics_;
  TempDir dir_;
  Failure failure_;
  std::vector<Json> events_;
  Events emit_{[this](const Json& event) { events_.push_back(event); }};
  BackgroundWriter writer_{failure_};
  StepRecorder recorder_{
      {.run_dir = dir_.path(), .run_id = "run", .recent_rewards = {}}, emit_, writer_, metrics_};
};

TEST_F(StepRecorderTest, DistanceFromTheSamplingPolicyIsExportedAndWritten) {
  const auto gauge = [&](const std::string& name) { return metrics_.MakeGauge(name).Value(); };
  StepFacts facts = Facts(1);
  facts.report.metrics = {
      {"mismatch_kl", 0.25}, {"importance_ess_ratio", 0.75}, {"importance_chi2", 0.5}};
  recorder_.Record(facts);
  // A step that trained on nothing says nothing of it.
  recorder_.Record(Facts(2));
  EXPECT_EQ(gauge("tramontane_trainer_mismatch_kl"), 0.25);
  EXPECT_EQ(gauge("tramontane_trainer_importance_ess_ratio"), 0.75);
  EXPECT_EQ(gauge("tramontane_trainer_importance_chi2"), 0.5);
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[0]["policy"]["mismatch_kl"], 0.25);
  EXPECT_FALSE(events_[1].contains("policy"));
  ASSERT_TRUE(writer_.Flush().ok());
  EXPECT_NE(ReadFile(dir_.path() + "/metrics.jsonl").value().find("\"importance_chi2\":0.5"),
            std::string::npos);
}

}  // namespace
}  // namespace tramontane
