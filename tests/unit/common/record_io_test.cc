#include "common/record_io.h"

#include <gmock/gmock.h>

namespace tramontane {
namespace {

Group SampleGroup() {
  Group group;
  group.task.gid = "g";
  group.task.cursor = 9;
  group.task.samples = 6;
  group.task.answers = 2;
  group.task.corrections_by_prompt = true;
  group.task.row = {.row_id = "r:1",
                    .prompt = "1+1=",
                    .prompt_tokens = {1, 2},
                    .messages = {{"system", "Add."}, {"user", "1+1"}},
                    .answer = "2",
                    .verifier = "math",
                    .params = {{"kind", "addition"}}};
  group.task.sampling.max_new_tokens = 8;
  group.task.sampling.seed = 1ull << 63;
  group.task.sampling.thinking = ThinkingParams{.budget = 4, .on_exhaust = "cwm"};
  group.task.sampling.repetition_tokens = 12;
  group.task.sampling.repetition_times = 3;
  group.task.wants_routes = true;
  group.task.reward_weights = {{"length", 0.25}};
  group.generator_id = "generator-0";
  Rollout rollout;
  rollout.tokens = {5, 6, 7};
  rollout.logprobs = {-0.1f, -1e-30f, -20.5f};
  rollout.spans = {{3, 1}, {4, 2}};
  rollout.injected = {{1, 1}};
  rollout.usage = {1, 1, 1};
  rollout.routes = {0, 254, kNoRoute, kNoRoute, 3, 7, 1, 1};
  rollout.text = "a\xff";  // not UTF-8: text is derived and may be cut inside a character
  rollout.finish_reason = FinishReason::kStop;
  rollout.verdict.status = VerdictStatus::kScored;
  rollout.verdict.score = 0.1;
  rollout.verdict.components = {{"format", 0.1}};
  group.rollouts.push_back(rollout);
  return group;
}

TEST(RecordIo, AGroupSurvivesTheRoundTrip) {
  const Group group = SampleGroup();
  auto read = DecodeGroup(EncodeGroup(group));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->task.sampling, group.task.sampling);
  EXPECT_EQ(read->task.row.params, group.task.row.params);
  EXPECT_EQ(read->task.row.messages, group.task.row.messages);
  const Rollout& rollout = read->rollouts.at(0);
  EXPECT_EQ(rollout.tokens, group.rollouts[0].tokens);
  EXPECT_EQ(rollout.logprobs, group.rollouts[0].logprobs);
  EXPECT_EQ(rollout.spans, group.rollouts[0].spans);
  EXPECT_EQ(rollout.injected, group.rollouts[0].injected);
  EXPECT_EQ(rollout.usage, group.rollouts[0].usage);
  EXPECT_EQ(rollout.routes, group.rollouts[0].routes);
  EXPECT_TRUE(read->task.wants_routes);
  EXPECT_EQ(read->task.reward_weights, group.task.reward_weights);
  EXPECT_EQ(read->task.answers, 2);
  EXPECT_TRUE(read->task.corrections_by_prompt);
  EXPECT_EQ(rollout.text, group.rollouts[0].text);
  EXPECT_EQ(rollout.verdict.score, 0.1);
}

TEST(RecordIo, RecordsFromBeforeRoutesHaveNone) {
  const std::string bytes = EncodeGroup(SampleGroup());
  Json record = Json::from_msgpack(bytes);
  const auto drop = [](auto& self, Json& json) -> void {
    if (json.is_object()) {
      json.erase("routes");
      json.erase("wants_routes");
    }
    if (json.is_structured())
      for (Json& part : json) self(self, part);
  };
  drop(drop, record);
  const std::vector<uint8_t> old = Json::to_msgpack(record);
  ASSERT_LT(old.size(), bytes.size());
  const auto read = DecodeGroup(std::string(old.begin(), old.end()));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->rollouts[0].routes.empty());
  EXPECT_FALSE(read->task.wants_routes);
}

TEST(RecordIo, AnAbsentScoreStaysAbsent) {
  Group group = SampleGroup();
  group.rollouts[0].verdict.status = VerdictStatus::kInfraFailure;
  group.rollouts[0].verdict.score.reset();
  auto read = DecodeGroup(EncodeGroup(group));
  ASSERT_TRUE(read.ok());
  EXPECT_FALSE(read->rollouts[0].verdict.score.has_value());
}

TEST(RecordIo, LengthsThatDisagreeAreRefused) {
  Group group = SampleGroup();
  group.rollouts[0].logprobs.pop_back();
  EXPECT_EQ(DecodeGroup(EncodeGroup(group)).status().code(), absl::StatusCode::kDataLoss);
  group = SampleGroup();
  group.rollouts[0].spans[1].count = 3;
  EXPECT_EQ(DecodeGroup(EncodeGroup(group)).status().code(), absl::StatusCode::kDataLoss);
  group = SampleGroup();
  group.rollouts[0].spans = {{4, 1}, {3, 2}};
  EXPECT_EQ(DecodeGroup(EncodeGroup(group)).status().code(), absl::StatusCode::kDataLoss);
}

TEST(RecordIo, SpansOfInjectedTokensMustLieInTheResponseAndApart) {
  for (const std::vector<TokenSpan>& bad :
       {std::vector<TokenSpan>{{2, 2}}, {{-1, 1}}, {{0, 0}}, {{0, 2}, {1, 1}}, {{2, 1}, {0, 1}}}) {
    Group group = SampleGroup();
    group.rollouts[0].injected = bad;
    EXPECT_EQ(DecodeGroup(EncodeGroup(group)).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(RecordIo, AnInjectedTokenIsPrintedWithoutALogProbability) {
  const Json json = ToJson(SampleGroup().rollouts[0]);
  EXPECT_TRUE(json["logprobs"][1].is_null());
  EXPECT_TRUE(json["logprobs"][2].is_number());
  EXPECT_EQ(json["injected"], Json::parse("[[1, 1]]"));
}

TEST(RecordIo, DamageIsAnErrorAtEveryByte) {
  const std::string bytes = EncodeGroup(SampleGroup());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(DecodeGroup(bytes.substr(0, length)).ok()) << length;
  }
}

}  // namespace
}  // namespace tramontane
