#include "trainer/ledger/rollout_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "common/files.h"
#include "tests/support/redis_server.h"

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
    JsonLines file(path);
    file.Add(RolloutLine(group, rollout, "run", 4, "trained"));
    ASSERT_TRUE(file.Flush().ok());
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

}  // namespace
}  // namespace tramontane
