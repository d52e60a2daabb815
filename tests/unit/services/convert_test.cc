#include "services/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace tramontane {
namespace {

TEST(ConvertTest, SamplingGoesThereAndBack) {
  SamplingParams sampling;
  sampling.temperature = 0;
  sampling.top_p = 0.9;
  sampling.top_k = 5;
  sampling.min_p = 0.05;
  sampling.max_new_tokens = 17;
  sampling.seed = std::numeric_limits<uint64_t>::max();
  sampling.stop = {"a", "b"};
  sampling.stop_token_ids = {3};
  sampling.ignore_eos = true;
  EXPECT_EQ(*FromProto(ToProto(sampling)), sampling);
  sampling.thinking = ThinkingParams{.budget = 0,
                                     .effort = "low",
                                     .tag = "[Easy]",
                                     .mode = "on",
                                     .min_tokens = 3,
                                     .on_exhaust = "custom",
                                     .exhaust_text = "x</think>",
                                     .reserve = 0,
                                     .extensions = 2,
                                     .extension_text = "Hmm",
                                     .guidance_draw = "plain"};
  EXPECT_EQ(*FromProto(ToProto(sampling)), sampling);
  sampling.thinking = ThinkingParams{.budget = 9, .guidance = true};
  EXPECT_EQ(*FromProto(ToProto(sampling)), sampling);
  sampling.thinking = ThinkingParams();
  EXPECT_EQ(*FromProto(ToProto(sampling)), sampling);
}

TEST(ConvertTest, AbsentSamplingFieldsHaveTheirDocumentedMeaning) {
  v1::SamplingParams proto;
  proto.set_max_new_tokens(1);
  const SamplingParams sampling = *FromProto(proto);
  EXPECT_EQ(sampling.temperature, 1.0);
  EXPECT_EQ(sampling.top_p, 1.0);
}

TEST(ConvertTest, SamplingOutOfRangeNamesTheField) {
  const std::pair<std::function<void(v1::SamplingParams&)>, std::string> cases[] = {
      {[](auto& p) { p.set_temperature(-1); }, "temperature"},
      {[](auto& p) { p.set_temperature(NAN); }, "temperature"},
      {[](auto& p) { p.set_top_p(0); }, "top_p"},
      {[](auto& p) { p.set_top_p(NAN); }, "top_p"},
      {[](auto& p) { p.set_min_p(1); }, "min_p"},
      {[](auto& p) { p.set_top_k(0xffffffff); }, "top_k"},
      {[](auto& p) { p.mutable_thinking()->set_budget(-2); }, "thinking.budget"},
      {[](auto& p) { p.mutable_thinking()->set_reserve(0xffffffff); }, "thinking.reserve"},
      {[](auto& p) { p.mutable_thinking()->set_effort("huge"); }, "thinking.effort"},
      {[](auto& p) { p.mutable_thinking()->set_guidance_draw("odd"); }, "thinking.guidance_draw"},
      {[](auto& p) { p.set_max_new_tokens(0); }, "max_new_tokens"}};
  for (const auto& [spoil, field] : cases) {
    v1::SamplingParams proto;
    proto.set_max_new_tokens(1);
    spoil(proto);
    const auto sampling = FromProto(proto);
    ASSERT_FALSE(sampling.ok()) << field;
    EXPECT_TRUE(absl::IsInvalidArgument(sampling.status()));
    EXPECT_NE(std::string(sampling.status().message()).find(field), std::string::npos);
  }
}

Rollout SomeRollout() {
  Rollout rollout;
  rollout.sample_index = 3;
  rollout.tokens = {5, 6, 7};
  rollout.logprobs = {-0.5f, -1.25f, -0.0f};
  rollout.spans = {{4, 2}, {5, 1}};
  rollout.finish_reason = FinishReason::kLength;
  rollout.text = "abc";
  rollout.generate_seconds = 0.25;
  rollout.injected = {{0, 1}, {2, 1}};
  rollout.usage = {1, 0, 2};
  return rollout;
}

TEST(ConvertTest, RolloutGoesThereAndBack) {
  const Rollout rollout = SomeRollout();
  const Rollout back = *FromProto(ToProto(rollout));
  EXPECT_EQ(back.sample_index, rollout.sample_index);
  EXPECT_EQ(back.tokens, rollout.tokens);
  EXPECT_EQ(back.logprobs, rollout.logprobs);
  EXPECT_EQ(back.spans, rollout.spans);
  EXPECT_EQ(back.finish_reason, rollout.finish_reason);
  EXPECT_EQ(back.text, rollout.text);
  EXPECT_EQ(back.generate_seconds, rollout.generate_seconds);
  EXPECT_EQ(back.injected, rollout.injected);
  EXPECT_EQ(back.usage, rollout.usage);
}

TEST(ConvertTest, ARolloutWhoseLengthsDisagreeIsRefused) {
  v1::Rollout short_logprobs = ToProto(SomeRollout());
  short_logprobs.mutable_logprobs()->RemoveLast();
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(short_logprobs).status()));
  v1::Rollout uncovered = ToProto(SomeRollout());
  uncovered.mutable_versions()->RemoveLast();
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(uncovered).status()));
  v1::Rollout falling = ToProto(SomeRollout());
  falling.mutable_versions(1)->set_version(3);
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(falling).status()));
  v1::Rollout outside = ToProto(SomeRollout());
  outside.mutable_injected(1)->set_count(2);
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(outside).status()));
}

TEST(ConvertTest, VerdictGoesThereAndBack) {
  Verdict verdict;
  verdict.status = VerdictStatus::kScored;
  verdict.score = 1.0;
  verdict.components = {{"format", 0.1}, {"correct", 0.9}};
  verdict.metrics = {{"lines", 3}};
  verdict.correct = true;
  verdict.extracted = "42";
  verdict.verifier_digest = "d";
  const Verdict back = *FromProto(ToProto(verdict, "g/1"));
  EXPECT_EQ(back.status, verdict.status);
  EXPECT_EQ(back.score, verdict.score);
  EXPECT_EQ(back.components, verdict.components);
  EXPECT_EQ(back.metrics, verdict.metrics);
  EXPECT_TRUE(back.correct);
  EXPECT_EQ(back.extracted, "42");
  EXPECT_EQ(back.verifier_digest, "d");
}

TEST(ConvertTest, AnInfrastructureFailureNeverCarriesAReward) {
  for (int status : {v1::VERIFY_STATUS_TIMEOUT, v1::VERIFY_STATUS_BAD_INPUT,
                     v1::VERIFY_STATUS_VERIFIER_ERROR, v1::VERIFY_STATUS_SANDBOX_ERROR,
                     v1::VERIFY_STATUS_OVERLOADED, v1::VERIFY_STATUS_CANCELLED}) {
    v1::VerifyResult result;
    result.set_status(static_cast<v1::VerifyStatus>(status));
    const Verdict verdict = *FromProto(result);
    EXPECT_FALSE(verdict.score.has_value());
    EXPECT_EQ(verdict.status, status == v1::VERIFY_STATUS_TIMEOUT ? VerdictStatus::kTimeout
                                                                  : VerdictStatus::kInfraFailure);
    result.set_reward(0);
    EXPECT_FALSE(FromProto(result).ok()) << status;
  }
}

TEST(ConvertTest, AFailureTravelsWithWhoseFaultItIs) {
  for (const auto& [fault, status, retryable] :
       {std::tuple{Fault::kRow, v1::VERIFY_STATUS_BAD_INPUT, false},
        std::tuple{Fault::kSandbox, v1::VERIFY_STATUS_SANDBOX_ERROR, true},
        std::tuple{Fault::kVerifier, v1::VERIFY_STATUS_VERIFIER_ERROR, true}}) {
    Verdict verdict;
    verdict.status = VerdictStatus::kInfraFailure;
    verdict.fault = fault;
    const v1::VerifyResult result = ToProto(verdict, "g/1");
    EXPECT_EQ(result.status(), status);
    EXPECT_EQ(result.retryable(), retryable);
    EXPECT_FALSE(result.has_reward());
  }
}

TEST(ConvertTest, RewardsThatAreNotNumbersOrMissingAreRefused) {
  v1::VerifyResult result;
  EXPECT_FALSE(FromProto(result).ok());  // no status
  result.set_status(v1::VERIFY_STATUS_SCORED);
  EXPECT_FALSE(FromProto(result).ok());  // no reward
  for (double bad : {double(NAN), double(INFINITY), -double(INFINITY)}) {
    result.set_reward(bad);
    EXPECT_FALSE(FromProto(result).ok());
  }
  result.set_reward(0);
  EXPECT_TRUE(FromProto(result).ok());
  (*result.mutable_components())["x"] = NAN;
  EXPECT_FALSE(FromProto(result).ok());
  result.clear_components();
  (*result.mutable_metrics())["x"] = INFINITY;
  EXPECT_FALSE(FromProto(result).ok());
  result.clear_metrics();
  for (int i = 0; i < 300; ++i) (*result.mutable_metrics())[std::to_string(i)] = i;
  EXPECT_FALSE(FromProto(result).ok()) << "more than anybody reads";
}

TEST(ConvertTest, ManifestGoesThereAndBack) {
  WeightManifest manifest;
  manifest.version = 7;
  manifest.trainer_epoch = 2;
  manifest.payload_bytes = 16;
  manifest.tensors = {{"w", {2, 2}, "float32", 0, 16, "hash"}};
  manifest.probe_tokens = {1, 2};
  manifest.probe_logprobs = {-1.5f};
  manifest.probe_tolerance = 0.25;
  const WeightManifest back = FromProto(ToProto(manifest));
  EXPECT_EQ(back.version, 7);
  EXPECT_EQ(back.trainer_epoch, 2);
  EXPECT_EQ(back.payload_bytes, 16u);
  ASSERT_EQ(back.tensors.size(), 1u);
  EXPECT_EQ(back.tensors[0].name, "w");
  EXPECT_EQ(back.tensors[0].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(back.tensors[0].sha256, "hash");
  EXPECT_EQ(back.probe_tokens, manifest.probe_tokens);
  EXPECT_EQ(back.probe_logprobs, manifest.probe_logprobs);
  EXPECT_EQ(back.probe_tolerance, 0.25);
}

TEST(ConvertTest, JsonGoesThroughAStruct) {
  const Json json = {{"kind", "sum"},
                     {"n", 3},
                     {"x", 0.5},
                     {"flags", {true, nullptr}},
                     {"deep", {{"list", {1, "two", Json::object()}}}}};
  EXPECT_EQ(FromStruct(*ToStruct(json)), json);
}

TEST(ConvertTest, JsonThatIsNoObjectOrTooDeepIsRefused) {
  EXPECT_FALSE(ToStruct(Json::array()).ok());
  Json deep = 1;
  for (int i = 0; i < 70; ++i) deep = Json{{"d", deep}};
  EXPECT_FALSE(ToStruct(deep).ok());
}

}  // namespace
}  // namespace tramontane
