#include "trainer/ledger/rollout_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "common/files.h"
#include "tests/support/redis_server.h"
#include "tests/support/small_disk.h"

namespace tramontane {
namespace {

TEST(RolloutLog, WritesOneReadableLineASampleEvenOfBrokenText) {
  TempDir dir;
  Group group;
  group.task.gid = "g";
  group.task.cursor = 7;
  group.task.row.prompt = "1+1=";
  Rollout rollout;
  rollout.tokens = {5, 6};
  rollout.logprobs = {-0.5f, -0.25f};
  rollout.spans = {{3, 1}, {4, 1}};
  rollout.finish_reason = FinishReason::kStop;
  rollout.text = "broken \xff utf-8";
  rollout.verdict.status = VerdictStatus::kScored;
  rollout.verdict.score = 0.25;
  const std::string path = dir.path() + "/rollouts/step_4/train.jsonl";
  for (int i = 0; i < 2; ++i) {
    JsonLines lines;
    lines.Add(RolloutLine(group, rollout, "run", 4, "trained"));
    ASSERT_TRUE(lines.AppendTo(path).ok());
  }
  std::istringstream lines(ReadFile(path).value());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json json = Json::parse(line);
    EXPECT_EQ(json["gid"], "g");
    EXPECT_EQ(json["prompt"], "1+1=");
    EXPECT_EQ(json["reward"], 0.25);
    EXPECT_EQ(json["fate"], "trained");
    EXPECT_EQ(json["version_min"], 3);
    EXPECT_EQ(json["version_max"], 4);
  }
  EXPECT_EQ(count, 2);
}

TEST(RolloutLog, AFullDiskIsNamedAndLeavesNoHalfLine) {
  auto disk = SmallDisk::Mount(size_t{1} << 20);
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  const std::string path = (*disk)->path() + "/rollouts/step_4/train.jsonl";
  const Json line = {{"text", std::string(6000, 'x')}};
  JsonLines one, three;
  one.Add(line);
  ASSERT_TRUE(one.AppendTo(path).ok());
  (*disk)->Fill(8192);  // the first of these fits, the second does not
  for (int i = 0; i < 3; ++i) three.Add(line);
  for (const absl::Status& status : {three.AppendTo(path), three.Write(path)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("disk full"));
    EXPECT_EQ(ReadFile(path).value(), line.dump() + "\n");
  }
}

TEST(RolloutLog, AWholeFileTakesThePlaceOfAnother) {
  TempDir dir;
  const std::string path = dir.path() + "/rollouts/step_4/train.jsonl";
  JsonLines first, second;
  for (int i = 0; i < 2; ++i) first.Add({{"line", i}});
  second.Add({{"line", 7}});
  ASSERT_TRUE(first.Write(path).ok());
  ASSERT_TRUE(second.Write(path).ok());
  EXPECT_EQ(ReadFile(path).value(), "{\"line\":7}\n");
}

}  // namespace
}  // namespace tramontane
