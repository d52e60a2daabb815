#include "trainer/learner/checkpoint_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/files.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class CheckpointDirTest : public ::testing::Test {
 protected:
  void Save(int64_t step, const std::string& weights, int keep_last = 9) {
    const absl::Status status = WriteCheckpoint(
        root_, {step, 3, {{"cursor", step * 10}}}, keep_last, [&](const std::string& dir) {
          EXPECT_TRUE(MakeDirs(dir + "/hf").ok());
          EXPECT_TRUE(WriteFileAtomic(dir + "/optimiser.json", "{}").ok());
          return WriteFileAtomic(dir + "/hf/model.safetensors", weights);
        });
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string Dir(int64_t step) const { return root_ + "/step_" + std::to_string(step); }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(root_))
      names.push_back(entry.path().filename().string());
    return names;
  }

  const TempDir temp_;
  const std::string root_ = temp_.path();
};

TEST_F(CheckpointDirTest, TheNewestIsFoundWithItsState) {
  Save(9, "a");
  Save(10, "b");
  const LoadedCheckpoint found = FindNewestCheckpoint(root_).value();
  EXPECT_EQ(found.state.step, 10);
  EXPECT_EQ(found.state.trainer_epoch, 3);
  EXPECT_EQ(found.state.ledger.at("cursor"), 100);
  EXPECT_EQ(found.dir, Dir(10));
  EXPECT_EQ(ReadFile(found.hf_dir + "/model.safetensors").value(), "b");
}

TEST_F(CheckpointDirTest, AKilledSaveIsNeitherFoundNorInTheWay) {
  Save(1, "a");
  fs::copy(Dir(1), root_ + "/.saving_step_2", fs::copy_options::recursive);
  std::ofstream(root_ + "/.saving_step_2/half") << "written";
  EXPECT_EQ(FindNewestCheckpoint(root_).value().state.step, 1);
  Save(2, "whole");
  EXPECT_EQ(FindNewestCheckpoint(root_).value().state.step, 2);
  EXPECT_FALSE(fs::exists(Dir(2) + "/half"));
  EXPECT_THAT(Names(), UnorderedElementsAre("step_1", "step_2"));
}

TEST_F(CheckpointDirTest, AFailedSaveNamesItsStepAndLeavesNothingBehind) {
  Save(1, "a");
  const absl::Status status = WriteCheckpoint(root_, {2, 3, {}}, 1, [](const std::string& dir) {
    EXPECT_TRUE(WriteFileAtomic(dir + "/half", "written").ok());
    return absl::ResourceExhaustedError("disk full");
  });
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(), "checkpoint of step 2: disk full");
  EXPECT_THAT(Names(), UnorderedElementsAre("step_1"));
}

TEST_F(CheckpointDirTest, DamageOfAnyKindFallsBackToTheOneBefore) {
  const auto damage = [&](auto f) {
    Save(1, "good");
    Save(2, "weights");
    f();
    const absl::StatusOr<LoadedCheckpoint> found = FindNewestCheckpoint(root_);
    EXPECT_EQ(found.value().state.step, 1);
    const absl::Status status = VerifyCheckpoint(Dir(2)).status();
    EXPECT_TRUE(absl::IsDataLoss(status) || absl::IsNotFound(status)) << status;
    fs::remove_all(Dir(2));
  };
  const std::string weights = Dir(2) + "/hf/model.safetensors";
  damage([&] { fs::resize_file(weights, 3); });
  damage([&] { std::ofstream(weights) << "wEights"; });
  damage([&] { fs::remove(weights); });
  damage([&] { fs::remove(Dir(2) + "/manifest.json"); });
  damage([&] { fs::resize_file(Dir(2) + "/manifest.json", 20); });
  damage([&] { std::ofstream(Dir(2) + "/manifest.json") << R"({"format_version": 99, "files": {}})"; });
  damage([&] { std::ofstream(Dir(2) + "/manifest.json") << R"({"format_version": 1, "files": []})"; });
}

TEST_F(CheckpointDirTest, AManifestCannotNameFilesOutsideItsFolder) {
  Save(1, "a");
  std::ofstream(Dir(1) + "/manifest.json")
      << R"({"format_version": 1, "step": 1, "trainer_epoch": 0, "ledger": null,
             "files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}})";
  EXPECT_THAT(std::string(VerifyCheckpoint(Dir(1)).status().message()), HasSubstr("bad file name"));
}

TEST_F(CheckpointDirTest, SavingAStepAgainReplacesIt) {
  Save(5, "first");
  Save(5, "second");
  EXPECT_EQ(ReadFile(FindNewestCheckpoint(root_).value().hf_dir + "/model.safetensors").value(), "second");
}

TEST_F(CheckpointDirTest, PruningKeepsTheNewest) {
  for (int64_t step : {2, 10, 9}) Save(step, "w");
  Save(1, "w", /*keep_last=*/2);
  EXPECT_THAT(Names(), UnorderedElementsAre("step_9", "step_10"));
}

TEST_F(CheckpointDirTest, NoneAndStrangersAreNotFound) {
  EXPECT_TRUE(absl::IsNotFound(FindNewestCheckpoint(root_ + "/absent").status()));
  fs::create_directories(root_ + "/step_");
  fs::create_directories(root_ + "/step_12x");
  EXPECT_TRUE(absl::IsNotFound(FindNewestCheckpoint(root_).status()));
}

}  // namespace
}  // namespace tramontane
