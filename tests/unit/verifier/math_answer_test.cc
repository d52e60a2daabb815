#include "verifier/math/answer.h"

#include <gtest/gtest.h>

#include <string>

#include "verifier/math/extract.h"
#include "verifier/math/prepare.h"

namespace tramontane::math {
namespace {

struct Pair {
  const char* gold;
  const char* answer;
  bool same;
};

// Judgements of our own: where math-verify has none or differs, and where a mistake would be easy.
constexpr Pair kPairs[] = {
    // Unicode, plain words, full stops.
    {"-7", "\u22127", true},
    {"-7", "\u20137", true},
    {"\\pi", "π", true},
    {"\\pi", "pi", true},
    {"x^2", "x²", true},
    {"\\sqrt{2}", "√2", true},
    {"90", "90°", true},
    {"5 cm^2", "5 cm²", true},
    {"5", "5.", true},
    {"7/2", "3 1/2", true},
    {"1000", "1 000", true},
    {"sin(x)", "\\sin x", true},
    // Written wrong: never right.
    {"5", "--6", false},
    {"5", "5 5", false},
    {"5", "5 or 6", false},
    {"168", "16 8", false},
    {"1234", "12,34", false},
    {"1.5", "1.5.0", false},
    {"1", "0/0", false},
    {"0", "5/0", false},
    {"1/0", "2/0", false},
    {"5", "(5", false},
    {"5", "", false},
    {"", "5", false},
    {"5", "?", false},
    {"5", "x", false},
    {"5", "nan", false},
    {"5", "1/0", false},
    {"5", "5x", false},
    {"5", "5\\pi", false},
    // Exactness beyond floating point.
    {"9007199254740993", "9007199254740992", false},
    {"\\frac{1}{2004!}", "\\frac{1}{2006!}", false},
    {"2^{-99}", "2^{-98}", false},
    {"e^{-100}", "e^{-101}", false},
    {"10^{60}+\\pi", "10^{60}", false},
    {"10^{60}+\\pi", "\\pi+10^{60}", true},
    {"2^{100}", "1267650600228229401496703205376", true},
    // The domain counts: real symbols of either sign.
    {"\\sqrt{x^2}", "|x|", true},
    {"\\sqrt{x^2}", "x", false},
    {"\\frac{x^2}{x}", "x", true},
    {"\\ln|x|", "\\ln x", false},
    // One reading of ± each.
    {"1 \\pm \\sqrt{5}", "1+\\sqrt{5}, 1-\\sqrt{5}", true},
    {"x=\\frac{-1\\pm\\sqrt{13}}{4}", "\\frac{-1+\\sqrt{13}}{4}, \\frac{-1-\\sqrt{13}}{4}", true},
    {"\\{1\\pm\\sqrt{5},-2\\}", "\\{-2, 1+\\sqrt{5}, 1-\\sqrt{5}\\}", true},
    {"\\{1\\pm\\sqrt{5},-2\\}", "\\{-2, 1+\\sqrt{5}, 1-\\sqrt{6}\\}", false},
};

TEST(MathAnswerTest, JudgesEveryPairOfTheTable) {
  for (const Pair& pair : kPairs) {
    EXPECT_EQ(SameMathAnswer(pair.gold, pair.answer), pair.same)
        << "gold \"" << pair.gold << "\", answer \"" << pair.answer << "\"";
  }
}

TEST(MathAnswerTest, ALiteralAnswerIsWrittenOutAndInOrder) {
  const AnswerOptions literal{.literal = true};
  EXPECT_TRUE(SameMathAnswer("105", "47+58"));
  EXPECT_FALSE(SameMathAnswer("105", "47+58", literal));
  EXPECT_FALSE(SameMathAnswer("24", "4!", literal));
  EXPECT_TRUE(SameMathAnswer("105", "105.0", literal));
  EXPECT_TRUE(SameMathAnswer("105", "x = 105", literal));
  EXPECT_TRUE(SameMathAnswer("\\frac{1}{2}", "0.5", literal));
  EXPECT_TRUE(SameMathAnswer("1,2,3", "3,2,1"));
  EXPECT_FALSE(SameMathAnswer("1,2,3", "3,2,1", literal));
  EXPECT_TRUE(SameMathAnswer("1,2,3", "1, 2, 3", literal));
  EXPECT_TRUE(SameMathAnswer("1,2,3", "(1,2,3)", literal));
  EXPECT_TRUE(SameMathAnswer("x+1", "1+x", literal));  // the gold answer is no number
}

TEST(MathAnswerTest, DecimalsSayHowCloseIsCloseEnough) {
  EXPECT_FALSE(SameMathAnswer("\\pi", "3.14"));
  EXPECT_TRUE(SameMathAnswer("\\pi", "3.14", {.decimals = 2}));
  EXPECT_FALSE(SameMathAnswer("\\pi", "3.15", {.decimals = 2}));
  EXPECT_FALSE(SameMathAnswer("\\pi", "3.1415926", {.decimals = 9}));
}

TEST(MathAnswerTest, RefusesGoldAnswersThatCannotBeUnderstood) {
  for (const char* gold : {"", "   ", "$$", "{5", "5}", "\\frac{1}{2", "1/0", "1.2.3", "1,,2", "%",
                           "12 34"}) {
    const absl::Status status = CheckMathGold(gold);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << gold;
    EXPECT_FALSE(status.message().empty());
  }
}

TEST(MathAnswerTest, AcceptsGoldAnswersOfEveryKind) {
  for (const char* gold : {"5", "-3", "1,234", "1, 2, 3", "1/2", "12.5%", "\\frac{1}{2}", "5 cm",
                           "x+1", ">", "yes", "(1,2)", "x=5", "\\sqrt{2}", "2020-01-05", "[0,1)",
                           "\\{1,2\\}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "$5$"}) {
    EXPECT_TRUE(CheckMathGold(gold).ok()) << gold << ": " << CheckMathGold(gold);
  }
}

TEST(PrepareTest, JoinsBoxesThatBelongTogether) {
  EXPECT_EQ(JoinedBoxes("\\boxed{1} and \\boxed{2}"), "1,2");
  EXPECT_EQ(JoinedBoxes("\\boxed{1}. That is wrong. The right one must be: \\boxed{2}"), "2");
  EXPECT_EQ(JoinedBoxes("\\boxed{\\boxed{3}}"), "\\boxed{3}");
  EXPECT_EQ(JoinedBoxes("\\boxed{4}, \\boxed{4}"), "4");
  EXPECT_EQ(JoinedBoxes("\\boxed{5"), "5");
  EXPECT_EQ(JoinedBoxes("no box"), "no box");
}

TEST(ExtractTest, TriesTheLikeliestPlaceFirst) {
  const auto first = [](const char* text) {
    const auto candidates = AnswerCandidates(text);
    return candidates.empty() ? "" : candidates[0];
  };
  EXPECT_EQ(first("We have $3$ and $4$. The answer is $7$, not $8$."), "7");
  EXPECT_EQ(first("The answer is 7. But see $8$: \\boxed{9}"), "9");
  EXPECT_EQ(first("First 3, then 4, at last 7"), "7");
  EXPECT_EQ(first("It is 1,234.5 in all"), "1234.5");
  EXPECT_EQ(first("nothing here"), "");
}

}  // namespace
}  // namespace tramontane::math
