#include "trainer/select_trainable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "learner_fixture.h"
#include "tests/support/small_disk.h"
#include "trainer/learner/checkpoint.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

TEST(SelectTrainableTest, ACheckpointIsTheStepAndTheLedgerAndAFullDiskLeavesNoHalfOfOne) {
  auto disk = SmallDisk::Mount(size_t{1} << 20);
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  const std::string dir = (*disk)->path() + "/checkpoints";
  MetricsRegistry metrics;
  SelectTrainable::Options options;
  options.checkpoints_dir = dir;
  SelectTrainable selection(options, testing::TinyModel(1), metrics);
  ASSERT_TRUE(selection.SaveCheckpoint({1, 4, {{"cursor", 7}}}).ok());
  (*disk)->Fill(0);
  const absl::Status full = selection.SaveCheckpoint({2, 4, {}}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), ::testing::StartsWith("checkpoint of step 2: "));
  const auto entries = fs::directory_iterator(dir);
  EXPECT_EQ(std::distance(fs::begin(entries), fs::end(entries)), 1)
      << "the half-made folder stands";
  const LoadedCheckpoint found = FindNewestCheckpoint(dir).value();
  EXPECT_EQ(found.state.step, 1);
  EXPECT_EQ(found.state.ledger.at("cursor"), 7);
}

}  // namespace
}  // namespace tramontane
