#include "trainer/learner/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "learner_fixture.h"
#include "model/checkpoint.h"
#include "tests/support/small_disk.h"
#include "tests/support/temp_dir.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using testing::Batches;
using testing::Flat;
using testing::TinyModel;
using testing::TinyRun;
using ::testing::HasSubstr;

class LearnerCheckpointTest : public ::testing::Test {
 protected:
  LearnerCheckpointTest() { fs::create_directories(root_ + "/source"); }

  void Steps(Learner& learner, int64_t from, int64_t to) {
    for (int64_t step = from; step <= to; ++step) ASSERT_TRUE(learner.Step(batches_[step - 1], step).ok());
  }
  absl::Status Save(const Learner& learner, int64_t step) {
    return SaveCheckpoint(root_ + "/checkpoints", learner, root_ + "/source", {step, 1, {{"cursor", 7}}}, 2);
  }

  const TempDir temp_;
  const std::string root_ = temp_.path();
  const std::vector<std::vector<Group>> batches_ = Batches(5);
};

TEST_F(LearnerCheckpointTest, ContinuingEqualsNeverHavingStoppedBitForBit) {
  MetricsRegistry metrics;
  RunConfig config = TinyRun();
  config.trainer.threads = 2;
  config.trainer.weight_decay = 0.01;
  auto uninterrupted = Learner::Create(config, TinyModel(1), metrics).value();
  Steps(*uninterrupted, 1, 3);
  const absl::Status saved = Save(*uninterrupted, 3);
  ASSERT_TRUE(saved.ok()) << saved;
  Steps(*uninterrupted, 4, 5);

  const LoadedCheckpoint found = FindNewestCheckpoint(root_ + "/checkpoints").value();
  EXPECT_EQ(found.state.step, 3);
  EXPECT_EQ(found.state.ledger.at("cursor"), 7);
  auto resumed = Learner::Create(config, LoadTransformer(found.hf_dir).value(), metrics).value();
  ASSERT_TRUE(resumed->LoadState(found.dir).ok());
  Steps(*resumed, 4, 5);
  EXPECT_TRUE(at::equal(Flat(resumed->model()), Flat(uninterrupted->model())));

  // Without the moments it would not.
  auto amnesiac = Learner::Create(config, LoadTransformer(found.hf_dir).value(), metrics).value();
  Steps(*amnesiac, 4, 5);
  EXPECT_FALSE(at::equal(Flat(amnesiac->model()), Flat(uninterrupted->model())));
}

TEST_F(LearnerCheckpointTest, StateOfAnotherModelIsRefusedByName) {
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), TinyModel(1), metrics).value();
  ASSERT_TRUE(learner->SaveState(root_).ok());
  ModelConfig other = TinyModel(1)->config();
  other.source["hidden_size"] = 16;
  other.source["intermediate_size"] = 16;
  auto model = std::make_shared<Transformer>(ParseModelConfig(other.source).value());
  model->InitRandom(1);
  auto wrong = Learner::Create(TinyRun(), model, metrics).value();
  const absl::Status status = wrong->LoadState(root_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("embed_tokens"));
}

TEST_F(LearnerCheckpointTest, TruncatedMomentsAreDataLoss) {
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), TinyModel(1), metrics).value();
  ASSERT_TRUE(learner->SaveState(root_).ok());
  fs::resize_file(root_ + "/optimiser_second_moment.bin", 100);
  EXPECT_EQ(learner->LoadState(root_).code(), absl::StatusCode::kDataLoss);
}

TEST_F(LearnerCheckpointTest, AFailedSaveLeavesNothingBehind) {
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), TinyModel(1), metrics).value();
  ASSERT_TRUE(Save(*learner, 1).ok());
  // A file where the staging folder's parent should be: every write fails.
  const std::string blocked = root_ + "/blocked";
  { std::FILE* file = std::fopen(blocked.c_str(), "w"); ASSERT_NE(file, nullptr); std::fclose(file); }
  EXPECT_FALSE(SaveCheckpoint(blocked, *learner, root_ + "/source", {2, 1, {}}, 2).ok());
  EXPECT_EQ(FindNewestCheckpoint(root_ + "/checkpoints").value().state.step, 1);
}

TEST_F(LearnerCheckpointTest, AFullDiskIsNamedAndTheCheckpointBeforeItStands) {
  auto disk = SmallDisk::Mount(size_t{16} << 20);
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  const std::string dir = (*disk)->path() + "/checkpoints";
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), TinyModel(1), metrics).value();
  const auto save = [&](int64_t step) {
    return SaveCheckpoint(dir, *learner, root_ + "/source", {step, 1, {}}, /*keep_last=*/3);
  };
  ASSERT_TRUE(save(1).ok());
  const int whole = (*disk)->CountFiles();
  // Too little for the weights, for the optimiser's moments, and for the manifest.
  const auto weights = fs::file_size(dir + "/step_1/hf/model.safetensors");
  for (const size_t room : {weights / 2, weights + weights / 2, 3 * weights + 4096}) {
    (*disk)->Fill(room);
    const absl::Status status = save(2);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << room << status;
    EXPECT_THAT(std::string(status.message()), ::testing::AllOf(HasSubstr(dir), HasSubstr("disk full")));
    EXPECT_EQ((*disk)->CountFiles(), whole) << room;
    EXPECT_EQ(FindNewestCheckpoint(dir).value().state.step, 1);
  }
  (*disk)->Fill(size_t{8} << 20);
  ASSERT_TRUE(save(2).ok());
  EXPECT_EQ(FindNewestCheckpoint(dir).value().state.step, 2);
}

}  // namespace
}  // namespace tramontane
