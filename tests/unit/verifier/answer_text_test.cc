#include "verifier/answer_text.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

TEST(ExtractAnswer, IsTheLastBalancedBoxBehindTheThinking) {
  EXPECT_EQ(ExtractAnswer("<think>\\boxed{1}</think>so \\boxed{2}, no: \\boxed{\\frac{1}{2}}."),
            "\\frac{1}{2}");
  EXPECT_EQ(ExtractAnswer("\\boxed{7}"), "7");
  EXPECT_EQ(ExtractAnswer("</think>\\boxed{3} and \\boxed{4"), "3");
}

TEST(ExtractAnswer, IsTheFirstCodeBlockWhereThereIsNoBox) {
  EXPECT_EQ(ExtractAnswer("a</think>```python\nx = 1\n```\nor\n```\nx = 2\n```"), "x = 1\n");
  EXPECT_EQ(ExtractAnswer("```python\nx = 1"), std::nullopt);
}

TEST(ExtractAnswer, IsAbsentWhereOnlyTheThinkingHasOne) {
  EXPECT_EQ(ExtractAnswer("\\boxed{1}</think>it is one"), std::nullopt);
  EXPECT_EQ(ExtractAnswer("\\boxed{1}[/T]one", "[/T]"), std::nullopt);
  EXPECT_EQ(ExtractAnswer(""), std::nullopt);
}

}  // namespace
}  // namespace tramontane
