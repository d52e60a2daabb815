#include "cli/run_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/files.h"
#include "tests/support/small_disk.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::MatchesRegex;

class RunDirTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "run_dir_test_" + std::to_string(::getpid());
    config_.run.output_dir = root_;
    config_.run.name = "a-run";
    config_.data.train = "tasks/train.jsonl";
    config_.model.path = "/models/small/";
    config_.verifiers["math"].builtin = "math";
  }
  void TearDown() override { fs::remove_all(root_); }

  // A run that was started once and whose process is gone.
  void MakeEarlierRun() {
    auto dir = RunDir::Create(config_, RunDirMode::kNew);
    ASSERT_TRUE(dir.ok()) << dir.status();
    ASSERT_TRUE(dir->WriteConfig(config_).ok());
  }

  std::string root_;
  RunConfig config_;
};

TEST_F(RunDirTest, ANameInUseBlocksAndSaysWhatToDo) {
  MakeEarlierRun();
  const auto again = RunDir::Create(config_, RunDirMode::kNew);
  EXPECT_TRUE(absl::IsAlreadyExists(again.status()));
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("--resume"));
}

TEST_F(RunDirTest, AForeignFolderIsNotTakenOver) {
  fs::create_directories(root_ + "/a-run");
  std::ofstream(root_ + "/a-run/thesis.txt") << "precious";
  EXPECT_TRUE(absl::IsAlreadyExists(RunDir::Create(config_, RunDirMode::kNew).status()));
  // Not even to clean it: there is no run of ours in it.
  EXPECT_TRUE(absl::IsAlreadyExists(RunDir::Create(config_, RunDirMode::kClean).status()));
  EXPECT_TRUE(fs::exists(root_ + "/a-run/thesis.txt"));
}

TEST_F(RunDirTest, ResumeNeedsARunAndOpensTheNextAttempt) {
  EXPECT_TRUE(absl::IsNotFound(RunDir::Create(config_, RunDirMode::kResume).status()));
  fs::remove_all(root_);
  MakeEarlierRun();
  const auto again = RunDir::Create(config_, RunDirMode::kResume);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->attempt(), 2);
  EXPECT_TRUE(fs::exists(again->config_path()));
  EXPECT_EQ(fs::read_symlink(root_ + "/a-run/logs/latest"), "attempt_2");
}

TEST_F(RunDirTest, CleanRemovesTheEarlierRun) {
  MakeEarlierRun();
  std::ofstream(root_ + "/a-run/metrics.jsonl") << "{}\n";
  const auto again = RunDir::Create(config_, RunDirMode::kClean);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(fs::exists(root_ + "/a-run/metrics.jsonl"));
  EXPECT_EQ(again->attempt(), 1);
}

TEST_F(RunDirTest, TwoRunsCannotShareAFolder) {
  const auto first = RunDir::Create(config_, RunDirMode::kNew);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->WriteConfig(config_).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(RunDir::Create(config_, RunDirMode::kResume).status()));
}

TEST_F(RunDirTest, AnEmptyNameIsMadeFromDataModelAndAShortId) {
  config_.run.name.clear();
  const auto dir = RunDir::Create(config_, RunDirMode::kNew);
  ASSERT_TRUE(dir.ok()) << dir.status();
  EXPECT_THAT(config_.run.name, MatchesRegex("train--small--[0-9a-f]{6}"));
  config_.run.name.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(RunDir::Create(config_, RunDirMode::kResume).status()));
}

TEST_F(RunDirTest, EndpointsAndScrapeTargetsFollowTheProcesses) {
  const auto dir = RunDir::Create(config_, RunDirMode::kNew);
  ASSERT_TRUE(dir.ok());
  const std::vector<ProcessView> processes = {
      {"trainer", "trainer", "127.0.0.1:5", "127.0.0.1:6", "t.log", 42, 0},
      {"generator-0", "generator", "127.0.0.1:7", "127.0.0.1:8", "g.log", -1, 3}};
  ASSERT_TRUE(dir->WriteEndpoints("a-run", processes).ok());
  const Json endpoints = Json::parse(*ReadFile(dir->path() + "/endpoints.json"));
  EXPECT_EQ(endpoints["processes"][0]["address"], "127.0.0.1:5");
  EXPECT_EQ(endpoints["processes"][1]["restarts"], 3);
  const Json targets = Json::parse(*ReadFile(dir->path() + "/prometheus_targets.json"));
  ASSERT_EQ(targets.size(), 1u) << "a dead process is no target";
  EXPECT_EQ(targets[0]["targets"][0], "127.0.0.1:6");
  EXPECT_EQ(targets[0]["labels"]["process"], "trainer");
}

TEST_F(RunDirTest, RelativePathsBecomeAbsolute) {
  fs::create_directories(root_);
  config_.reward.language_model = "models/lid.ftz";
  config_.generator.value_model = "runs/a/critic";
  std::ofstream(fs::path(config_.run.output_dir) / "mine.py") << "";
  const std::string script = fs::relative(fs::path(config_.run.output_dir) / "mine.py").string();
  config_.verifiers["own"].command = {"python3", "-m",   "tramontane_verifier",
                                      "serve",   script, "--port={port}"};
  MakePathsAbsolute(config_);
  EXPECT_EQ(config_.reward.language_model, (fs::current_path() / "models/lid.ftz").string());
  EXPECT_EQ(config_.generator.value_model, (fs::current_path() / "runs/a/critic").string());
  EXPECT_EQ(config_.verifiers["own"].command,
            (std::vector<std::string>{
                "python3", "-m", "tramontane_verifier", "serve",
                (fs::path(config_.run.output_dir) / "mine.py").lexically_normal().string(),
                "--port={port}"}));
  EXPECT_EQ(config_.data.train, (fs::current_path() / "tasks/train.jsonl").string());
  EXPECT_EQ(config_.data.eval, "");
  EXPECT_EQ(config_.model.path, "/models/small/");
}

TEST_F(RunDirTest, WhatAStageSetsBecomesAbsoluteLikeTheConfigurationsOwn) {
  config_.model = {};
  config_.model.init_tokenizer = "tokenizers/own";
  StageSection stage;
  stage.name = "sums";
  stage.kind = "rl";
  stage.set = {{"model", {{"init", {{"model_type", "llama"}}}, {"init_tokenizer", "tokenizers/small"}}},
               {"data", {{"train", "tasks/sums.jsonl"}, {"eval", ""}, {"shuffle", false}}}};
  config_.stages = {stage};
  MakePathsAbsolute(config_);
  const std::string here = fs::current_path().string();
  EXPECT_EQ(config_.model.init_tokenizer, here + "/tokenizers/own");
  const Json& set = config_.stages[0].set;
  EXPECT_EQ(set["model"]["init_tokenizer"], here + "/tokenizers/small");
  EXPECT_EQ(set["model"]["init"], stage.set["model"]["init"]);
  EXPECT_EQ(set["data"], Json({{"train", here + "/tasks/sums.jsonl"}, {"eval", ""}, {"shuffle", false}}));
}

TEST_F(RunDirTest, AFullDiskIsNamedAndTheConfigurationBeforeItStands) {
  auto disk = SmallDisk::Mount(size_t{1} << 20);
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  config_.run.output_dir = (*disk)->path();
  auto dir = RunDir::Create(config_, RunDirMode::kNew);
  ASSERT_TRUE(dir.ok()) << dir.status();
  ASSERT_TRUE(dir->WriteResolved(config_).ok());
  const std::string before = ReadFile(dir->resolved_path()).value();
  (*disk)->Fill(0);
  config_.run.max_steps = 77;
  const absl::Status status = dir->WriteResolved(config_);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), dir->resolved_path() + ": disk full");
  EXPECT_TRUE(absl::IsResourceExhausted(dir->WriteConfig(config_)));
  EXPECT_EQ(ReadFile(dir->resolved_path()).value(), before);
  EXPECT_FALSE(fs::exists(dir->config_path()));
}

}  // namespace
}  // namespace tramontane
