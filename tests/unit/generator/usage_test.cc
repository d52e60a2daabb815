#include "generator/usage.h"

#include <gtest/gtest.h>

#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

TokenUsage Count(ThinkPhase start, const std::string& response,
                 std::vector<TokenSpan> injected = {}, bool ended_by_token = false) {
  ThinkingPlan plan;
  plan.start = start;
  Rollout rollout;
  for (char c : response) rollout.tokens.push_back(static_cast<uint8_t>(c));
  rollout.text = response;
  if (ended_by_token) rollout.tokens.push_back(kEndToken);
  rollout.injected = std::move(injected);
  return CountUsage(plan, rollout, ended_by_token, ByteTokenizer());
}

TEST(CountUsage, CountsTokensStrictlyBetweenTheTags) {
  const TokenUsage usage = Count(ThinkPhase::kBefore, "<think>abc</think>\\boxed{2}");
  EXPECT_EQ(usage.thinking, 3);
  EXPECT_EQ(usage.answer, 7 + 8 + 9);
  EXPECT_EQ(usage.injected, 0);
}

TEST(CountUsage, AnUnclosedTagReachesToTheEndButNotOverTheEndToken) {
  EXPECT_EQ(Count(ThinkPhase::kBefore, "<think>abcdef").thinking, 6);
  const TokenUsage ended = Count(ThinkPhase::kBefore, "<think>abcdef", {}, true);
  EXPECT_EQ(ended.thinking, 6);
  EXPECT_EQ(ended.answer, 8);
}

TEST(CountUsage, APromptCanOpenTheThinkingAndCloseIt) {
  EXPECT_EQ(Count(ThinkPhase::kInside, "ab</think>2").thinking, 2);
  EXPECT_EQ(Count(ThinkPhase::kAfter, "ab</think>2").thinking, 0);
}

TEST(CountUsage, InjectedTokensAreNeitherThoughtsNorAnswer) {
  const TokenUsage usage = Count(ThinkPhase::kInside, "abWaitc</think>2", {{2, 4}, {7, 8}});
  EXPECT_EQ(usage.thinking, 3);
  EXPECT_EQ(usage.injected, 12);
  EXPECT_EQ(usage.answer, 1);
}

TEST(CountUsage, WithoutTagsAllIsAnswer) { EXPECT_EQ(Count(ThinkPhase::kBefore, "bcd").answer, 3); }

}  // namespace
}  // namespace tramontane
