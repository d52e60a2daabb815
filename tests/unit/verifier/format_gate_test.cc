#include "verifier/format_gate.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

TEST(LastBoxedTest, TakesTheLastBalancedBox) {
  EXPECT_EQ(LastBoxed("\\boxed{1} and \\boxed{2}"), "2");
  EXPECT_EQ(LastBoxed("\\boxed{\\frac{1}{2}}"), "\\frac{1}{2}");
  EXPECT_EQ(LastBoxed("\\boxed{\\boxed{5}}"), "\\boxed{5}");
  EXPECT_EQ(LastBoxed("\\boxed {5}"), "5");
  EXPECT_EQ(LastBoxed("\\boxed{}"), "");
  EXPECT_EQ(LastBoxed("\\boxed{1} \\boxed{2"), "1");
  EXPECT_EQ(LastBoxed("\\boxed{\\{1,2\\}}"), "\\{1,2\\}");
  EXPECT_EQ(LastBoxed("} \\boxed{5} {"), "5");
}

TEST(LastBoxedTest, IsAbsentWithoutABalancedBox) {
  EXPECT_FALSE(LastBoxed(""));
  EXPECT_FALSE(LastBoxed("5"));
  EXPECT_FALSE(LastBoxed("\\boxed"));
  EXPECT_FALSE(LastBoxed("\\boxed 5"));
  EXPECT_FALSE(LastBoxed("\\boxed{5"));
  EXPECT_FALSE(LastBoxed("\\boxed{{5}"));
  EXPECT_FALSE(LastBoxed("\\boxed{5\\}"));
  EXPECT_FALSE(LastBoxed("boxed{5}"));
}

struct GateCase {
  const char* completion;
  bool passes;
  const char* boxed;  // null: none found
};

TEST(FormatGateTest, FollowsMagistralsRules) {
  const GateCase cases[] = {
      {"<think>a</think>\\boxed{5}", true, "5"},
      {"<think></think>\\boxed{5}", true, "5"},
      {"<think>a</think> The answer is \\boxed{5}.<|im_end|>", true, "5"},
      {"<think>\\boxed{4}</think>\\boxed{5}", true, "5"},
      {"<think>a</think>\\boxed{}", true, ""},
      {"a<think>b</think>\\boxed{5}", false, "5"},
      {" <think>b</think>\\boxed{5}", false, "5"},
      {"\\boxed{5}", false, nullptr},
      {"<think>a\\boxed{5}", false, nullptr},
      {"<think>a</think>5", false, nullptr},
      {"<think>a</think>", false, nullptr},
      {"<think>\\boxed{5}</think>", false, nullptr},
      {"<think>a<think>b</think>\\boxed{5}", false, "5"},
      {"<think>a</think>b</think>\\boxed{5}", false, "5"},
      {"<think>a</think><think>b</think>\\boxed{5}", false, "5"},
      {"<think>a</think>\\boxed{5}<think>", false, "5"},
      {"</think><think>\\boxed{5}", false, nullptr},
      {"<Think>a</Think>\\boxed{5}", false, nullptr},
      {"", false, nullptr},
      {"<think>", false, nullptr},
  };
  for (const GateCase& c : cases) {
    const FormatCheck check = CheckFormat(c.completion, RewardSection{});
    EXPECT_EQ(check.passed, c.passes) << c.completion << ": " << check.reason;
    EXPECT_EQ(check.reason.empty(), c.passes) << c.completion;
    ASSERT_EQ(check.boxed.has_value(), c.boxed != nullptr) << c.completion;
    if (c.boxed) {
      EXPECT_EQ(*check.boxed, c.boxed) << c.completion;
    }
  }
}

TEST(FormatGateTest, TagsAreConfigurable) {
  RewardSection reward;
  reward.think_open = "[THINK]";
  reward.think_close = "[/THINK]";
  EXPECT_TRUE(CheckFormat("[THINK]a[/THINK]\\boxed{5}", reward).passed);
  EXPECT_FALSE(CheckFormat("<think>a</think>\\boxed{5}", reward).passed);
}

TEST(FormatGateTest, WithoutRequiredThoughtsOnlyTheBoxIsAskedFor) {
  RewardSection reward;
  reward.require_think = false;
  EXPECT_TRUE(CheckFormat("The answer is \\boxed{5}", reward).passed);
  EXPECT_TRUE(CheckFormat("<think>\\boxed{4}</think>\\boxed{5}", reward).passed);
  EXPECT_EQ(CheckFormat("<think>\\boxed{4}</think>\\boxed{5}", reward).boxed, "5");
  EXPECT_FALSE(CheckFormat("The answer is 5", reward).passed);
  EXPECT_FALSE(CheckFormat("<think>\\boxed{4}", reward).passed) << "thoughts that never ended";
}

}  // namespace
}  // namespace tramontane
