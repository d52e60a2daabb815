#include "verifier/grader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace tramontane {
namespace {

TEST(GraderTest, EveryGraderDescribesItsParamsAndOnlyProgramsAreNotPure) {
  for (const std::string& name : BuiltinGraderNames()) {
    const auto grader = MakeBuiltinGrader(name, RewardSection{});
    ASSERT_TRUE(grader.ok()) << name << ": " << grader.status();
    EXPECT_EQ((*grader)->pure(), !NeedsSandbox(name)) << name;
    const Json schema = (*grader)->params_schema();
    EXPECT_EQ(schema.value("type", ""), "object") << name;
    EXPECT_TRUE(schema["properties"].is_object()) << name;
  }
  const auto code = MakeBuiltinGrader("code", RewardSection{});
  EXPECT_EQ((*code)->params_schema()["properties"]["scoring"]["default"], "all");
}

std::unique_ptr<Grader> Make(const std::string& name, const RewardSection& reward = {}) {
  auto grader = MakeBuiltinGrader(name, reward);
  EXPECT_TRUE(grader.ok()) << grader.status();
  return *std::move(grader);
}

Verdict Grade(const Grader& grader, const std::string& completion, const std::string& gold) {
  GradeRequest request;
  request.completion = completion;
  request.answer = gold;
  return grader.Grade(request);
}

TEST(GraderTest, MathScoresFormatAndAccuracy) {
  const auto math = Make("math");
  const Verdict right = Grade(*math, "<think>1+1</think>\\boxed{2}", "2");
  EXPECT_EQ(right.status, VerdictStatus::kScored);
  EXPECT_EQ(right.score, 1.0);
  EXPECT_TRUE(right.correct);
  EXPECT_EQ(right.extracted, "2");
  EXPECT_EQ(right.verifier, "math");
  EXPECT_EQ(right.verifier_version, math->version());
  EXPECT_EQ(right.verifier_digest, math->digest());

  const Verdict wrong = Grade(*math, "<think>1+1</think>\\boxed{3}", "2");
  EXPECT_EQ(wrong.score, 0.1);
  EXPECT_FALSE(wrong.correct);
}

TEST(GraderTest, MalformedCompletionsAreScoredZeroAndSayWhy) {
  const auto math = Make("math");
  const Verdict verdict = Grade(*math, "no thoughts \\boxed{2}", "2");
  EXPECT_EQ(verdict.status, VerdictStatus::kScored);
  EXPECT_EQ(verdict.score, 0.0);
  EXPECT_THAT(verdict.feedback, testing::HasSubstr("<think>"));
}

TEST(GraderTest, AccuracyStandsApartFromFormat) {
  // The box is right, the tags are not: no reward, and still a correct answer in evaluations.
  const Verdict verdict = Grade(*Make("math"), "x<think>a</think>\\boxed{2}", "2");
  EXPECT_EQ(verdict.score, 0.0);
  EXPECT_TRUE(verdict.correct);
}

TEST(GraderTest, UnfinishedThoughtsHoldNoAnswer) {
  const Verdict verdict = Grade(*Make("math"), "<think>perhaps \\boxed{2}", "2");
  EXPECT_EQ(verdict.score, 0.0);
  EXPECT_FALSE(verdict.correct);
  EXPECT_EQ(verdict.extracted, "");
}

TEST(GraderTest, ExactWantsTheSameText) {
  const auto exact = Make("exact");
  EXPECT_EQ(Grade(*exact, "<think>a</think>\\boxed{cba}", "cba").score, 1.0);
  EXPECT_EQ(Grade(*exact, "<think>a</think>\\boxed{ cba }", "cba").score, 1.0);
  EXPECT_EQ(Grade(*exact, "<think>a</think>\\boxed{CBA}", "cba").score, 0.1);
  EXPECT_EQ(Grade(*exact, "<think>a</think>\\boxed{1.0}", "1").score, 0.1);
  EXPECT_FALSE(exact->CheckRow(" ", Json::object()).ok());
}

TEST(GraderTest, UnknownNamesListTheKnownOnes) {
  const auto grader = MakeBuiltinGrader("maths", RewardSection{});
  EXPECT_EQ(grader.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(grader.status().message()), testing::HasSubstr("exact, format"));
  for (const std::string& name : BuiltinGraderNames()) Make(name);
}

TEST(GraderTest, TheDigestFollowsNameAndEveryRewardField) {
  RewardSection reward;
  const std::string base = Make("math", reward)->digest();
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(base, Make("math", reward)->digest());
  EXPECT_NE(base, Make("exact", reward)->digest());
  reward.correct = 0.8;
  EXPECT_NE(base, Make("math", reward)->digest());
  reward = {};
  reward.require_think = false;
  EXPECT_NE(base, Make("math", reward)->digest());
}

TEST(GraderTest, LongAnswersAreShortenedBetweenCharacters) {
  std::string answer;
  for (int i = 0; i < 1000; ++i) answer += "é";
  const Verdict verdict = Grade(*Make("math"), "<think>a</think>\\boxed{x" + answer + "}", "2");
  EXPECT_LT(verdict.extracted.size(), 300u);
  EXPECT_EQ(verdict.extracted.substr(verdict.extracted.size() - 5), "é…");
}

}  // namespace
}  // namespace tramontane
