// When a sample goes round in circles: the piece, its length, and where it is noticed.
#include "generator/core/repetition.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tramontane {
namespace {

// The number of tokens after which the rule fires; -1: it does not.
int FiresAfter(const std::vector<int32_t>& text, int32_t tokens, int32_t times) {
  RepetitionRule rule(tokens, times);
  for (size_t n = 1; n <= text.size(); ++n) {
    if (rule.Push(std::span(text).first(n))) return static_cast<int>(n);
  }
  return -1;
}

std::vector<int32_t> Cycle(const std::vector<int32_t>& piece, size_t length) {
  std::vector<int32_t> text;
  for (size_t i = 0; i < length; ++i) text.push_back(piece[i % piece.size()]);
  return text;
}

TEST(RepetitionRuleTest, FiresWhenThePieceFillsTheWindow) {
  EXPECT_EQ(FiresAfter(Cycle({7}, 20), 8, 4), 8);
  EXPECT_EQ(FiresAfter(Cycle({7, 8}, 20), 8, 4), 8);
  std::vector<int32_t> text = {1, 2, 3, 4, 5};
  for (int32_t token : Cycle({7, 8}, 20)) text.push_back(token);
  EXPECT_EQ(FiresAfter(text, 8, 4), 5 + 8);
}

TEST(RepetitionRuleTest, LetsLongPiecesAndShortRunsPass) {
  // Three tokens fit less than four times into eight.
  EXPECT_EQ(FiresAfter(Cycle({1, 2, 3}, 60), 8, 4), -1);
  EXPECT_EQ(FiresAfter(Cycle({1, 2, 3}, 60), 12, 4), 12);
  EXPECT_EQ(FiresAfter(Cycle({7}, 7), 8, 4), -1);
  // Interrupted by one other token.
  std::vector<int32_t> text = Cycle({7}, 7);
  text.push_back(8);
  for (int32_t token : Cycle({7}, 7)) text.push_back(token);
  EXPECT_EQ(FiresAfter(text, 8, 4), -1);
}

TEST(RepetitionRuleTest, ClearForgetsWhatWasThere) {
  RepetitionRule rule(4, 2);
  const std::vector<int32_t> text = {5, 5, 5};
  for (size_t n = 1; n <= text.size(); ++n) EXPECT_FALSE(rule.Push(std::span(text).first(n)));
  rule.Clear();
  for (size_t n = 1; n <= text.size(); ++n) EXPECT_FALSE(rule.Push(std::span(text).first(n)));
}

// Against the definition, on random texts over two letters.
TEST(RepetitionRuleTest, AgreesWithItsDefinition) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> text;
    for (int i = 0; i < 30; ++i) text.push_back(static_cast<int32_t>(random() % 2));
    const int32_t tokens = 6, times = 2;
    RepetitionRule rule(tokens, times);
    for (size_t n = 1; n <= text.size(); ++n) {
      bool expected = false;
      for (size_t period = 1; period <= tokens / times && n >= tokens; ++period) {
        bool same = true;
        for (size_t i = n - tokens + period; i < n; ++i) same = same && text[i] == text[i - period];
        expected = expected || same;
      }
      EXPECT_EQ(rule.Push(std::span(text).first(n)), expected) << round << " " << n;
    }
  }
}

}  // namespace
}  // namespace tramontane
