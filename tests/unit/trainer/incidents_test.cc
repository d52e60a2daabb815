// Bands, dumps and pauses.
#include "trainer/loop/incidents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/files.h"
#include "common/rollout.h"
#include "trainer/ledger/pause_file.h"
#include "trainer/loop/starvation.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class IncidentsTest : public testing::Test {
 protected:
  IncidentsTest() : blobs_(BlobStore::Open(Fresh() + "/blobs").value()) {
    address_ = blobs_.Put("a group").value();
  }
  std::string Fresh() {
    dir_ = testing::TempDir() + "incidents_test_" + std::to_string(::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    return dir_;
  }
  ~IncidentsTest() override { fs::remove_all(dir_); }

  static BandSection Band(std::optional<double> low, std::optional<double> high,
                          const std::string& action = "pause", int32_t patience_steps = 1) {
    BandSection band;
    band.low = low;
    band.high = high;
    band.action = action;
    band.patience_steps = patience_steps;
    return band;
  }
  Incidents Make(const std::map<std::string, BandSection>& bands) {
    return Incidents(bands, dir_, blobs_, events_, metrics_);
  }
  void Look(Incidents& incidents, int64_t step, double kl, bool nonfinite = false) {
    const Json line = {{"step", step},
                       {"reward_mean", 0.5},
                       {"nonfinite", nonfinite},
                       {"skip_reason", nonfinite ? "loss is not finite" : ""},
                       {"policy", {{"mismatch_kl", kl}}}};
    const absl::Status status = incidents.Look(line, {address_});
    ASSERT_TRUE(status.ok()) << status;
  }

  std::string dir_;
  BlobStore blobs_;
  std::string address_;
  std::vector<Json> said_;
  Events events_{[this](const Json& event) { said_.push_back(event); }};
  MetricsRegistry metrics_;
};

TEST_F(IncidentsTest, APauseAfterSoManyStepsInARow) {
  Incidents incidents = Make({{"policy.mismatch_kl", Band({}, 0.1, "pause", 2)}});
  Look(incidents, 1, 0.2);
  Look(incidents, 2, 0.05);
  Look(incidents, 3, 0.2);
  EXPECT_FALSE(PauseReason(dir_));
  EXPECT_TRUE(said_.empty());
  Look(incidents, 4, 0.3);
  ASSERT_TRUE(PauseReason(dir_));
  EXPECT_EQ(*PauseReason(dir_), "step 4: policy.mismatch_kl 0.3 is above 0.1");
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_EQ(said_[0]["paused"], true);
  EXPECT_EQ(ReadFile(dir_ + "/dumps/step_4/group_0.record").value(), "a group");
  const Json step = Json::parse(ReadFile(dir_ + "/dumps/step_4/step.json").value());
  EXPECT_EQ(step["policy"]["mismatch_kl"], 0.3);
  EXPECT_EQ(step["incidents"].size(), 1u);
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("tramontane_band_breaches_total{band=\"policy.mismatch_kl\"} 1"));
  // Patience begins anew.
  ASSERT_TRUE(UnpauseRun(dir_).ok());
  Look(incidents, 5, 0.3);
  EXPECT_FALSE(PauseReason(dir_));
}

TEST_F(IncidentsTest, AWarningOnlySaysSoAndADumpStopsNothing) {
  Incidents warn = Make({{"reward_mean", Band(0.6, {}, "warn")}});
  Look(warn, 1, 0);
  EXPECT_EQ(said_.size(), 1u);
  EXPECT_FALSE(fs::exists(dir_ + "/dumps"));
  Incidents dump = Make({{"reward_mean", Band(0.6, {}, "dump")}});
  Look(dump, 2, 0);
  EXPECT_TRUE(fs::exists(dir_ + "/dumps/step_2/step.json"));
  EXPECT_FALSE(PauseReason(dir_));
  // A number that the line lacks is in order.
  Incidents absent = Make({{"policy.entropy", Band(1, {})}});
  Look(absent, 3, 0);
  EXPECT_EQ(said_.size(), 2u);
}

TEST_F(IncidentsTest, StepsThatWereNotFiniteAreKeptUpToABound) {
  Incidents incidents = Make({});
  for (int64_t step = 1; step <= 20; ++step) Look(incidents, step, 0, /*nonfinite=*/true);
  EXPECT_TRUE(fs::exists(dir_ + "/dumps/step_1/step.json"));
  EXPECT_TRUE(fs::exists(dir_ + "/dumps/step_16/step.json"));
  EXPECT_FALSE(fs::exists(dir_ + "/dumps/step_17"));
  EXPECT_FALSE(PauseReason(dir_));
}

TEST_F(IncidentsTest, APauseFileKeepsItsFirstReasonAndCountsWhateverItHolds) {
  EXPECT_TRUE(absl::IsNotFound(UnpauseRun(dir_)));
  ASSERT_TRUE(PauseRun(dir_, "first").ok());
  ASSERT_TRUE(PauseRun(dir_, "second").ok());
  EXPECT_EQ(PauseReason(dir_), "first");
  ASSERT_TRUE(UnpauseRun(dir_).ok());
  EXPECT_FALSE(PauseReason(dir_));
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/paused.json", "?").ok());
  EXPECT_EQ(PauseReason(dir_), "");
}

TEST(StarvationTest, ShortWaitOrPauseAndForgiven) {
  using Answer = Starvation::Answer;
  TrainerSection trainer;
  trainer.starvation_steps = 3;
  EXPECT_EQ(Starvation(trainer).Look(11, 4), Answer::kWait);
  EXPECT_EQ(Starvation(trainer).Look(12, 4), Answer::kTakeShort);
  trainer.starvation = "wait";
  EXPECT_EQ(Starvation(trainer).Look(1000, 4), Answer::kWait);
  trainer.starvation = "pause";
  Starvation pause(trainer);
  EXPECT_EQ(pause.Look(12, 4), Answer::kPause);
  pause.Forgive(12);
  EXPECT_EQ(pause.Look(23, 4), Answer::kWait);
  EXPECT_EQ(pause.Look(24, 4), Answer::kPause);
}

}  // namespace
}  // namespace tramontane
