#include "generator/usage.h"

#include <gtest/gtest.h>

#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

TokenUsage Count(const std::string& prompt, const std::string& response) {
  const auto tokenizer = ByteTokenizer();
  std::vector<int32_t> tokens;
  for (char c : response) tokens.push_back(static_cast<uint8_t>(c));
  return CountUsage(prompt, tokens, tokenizer);
}

TEST(CountUsage, CountsTokensStrictlyBetweenTheTags) {
  const TokenUsage usage = Count("1+1=", "<think>abc</think>\\boxed{2}");
  EXPECT_EQ(usage.thinking, 3);
  EXPECT_EQ(usage.answer, 7 + 8 + 9);
  EXPECT_EQ(usage.injected, 0);
}

TEST(CountUsage, AnUnclosedTagReachesToTheEnd) {
  EXPECT_EQ(Count("1+1=", "<think>abcdef").thinking, 6);
}

TEST(CountUsage, APromptCanOpenTheThinking) {
  EXPECT_EQ(Count("1+1=<think>", "ab</think>2").thinking, 2);
  EXPECT_EQ(Count("<think>x</think>1+1=", "ab</think>2").thinking, 0);
}

TEST(CountUsage, WithoutTagsAllIsAnswer) { EXPECT_EQ(Count("a", "bcd").answer, 3); }

}  // namespace
}  // namespace tramontane
