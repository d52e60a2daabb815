#include "verifier/math_answer.h"

#include <gtest/gtest.h>

#include <string>

namespace tramontane {
namespace {

struct Pair {
  const char* gold;
  const char* answer;
  bool same;
};

// Kept by kind; each line is one judgement that a person agreed with.
constexpr Pair kPairs[] = {
    // Integers.
    {"168", "168", true},
    {"168", "169", false},
    {"168", "0168", true},
    {"0", "-0", true},
    {"0", "000", true},
    {"7", "+7", true},
    {"-7", "7", false},
    {"-7", "-7", true},
    {"-7", "- 7", true},
    {"-7", "\u22127", true},
    {"-7", "\u20137", true},
    {"168", " 168 ", true},
    {"168", "168.", true},
    {"168", "16 8", false},
    {"168", "1680", false},
    {"168", "16.8", false},
    {"123456789012345678901234567890", "123456789012345678901234567890", true},
    {"123456789012345678901234567890", "123456789012345678901234567891", false},
    {"9007199254740993", "9007199254740992", false},
    {"100", "1e2", true},
    {"5", "five", false},
    {"5", "", false},
    {"5", " ", false},
    {"5", "?", false},
    {"5", "--5", false},
    {"5", "5 5", false},
    {"5", "5 or 6", false},
    {"5", "5+0", false},
    {"12", "3*4", false},
    // Thousands separators.
    {"1234", "1,234", true},
    {"1234567", "1,234,567", true},
    {"1234567", "1{,}234{,}567", true},
    {"1234567", "1\\,234\\,567", true},
    {"1234", "12,34", false},
    {"1234567", "1,234567", false},
    {"1234", ",234", false},
    {"1234.5", "1,234.5", true},
    {"1,234", "1234", true},
    {"0123", "0,123", true},
    // Decimals.
    {"0.5", ".5", true},
    {"0.5", "0.50", true},
    {"0.5", "0.500000000000000000000000000000", true},
    {"0.5", "0.500000000000000000000000000001", false},
    {"5", "5.0", true},
    {"5", "5.", true},
    {"5", "5.01", false},
    {"0.1", "0.10", true},
    {"0.3", "0.30000000000000004", false},
    {"3.14", "3.14159", false},
    {"-0.25", "-.25", true},
    {"0.25", "-.25", false},
    {"1.5", "1,5", false},
    {"1.5", "1.5.0", false},
    {"0", "0.0", true},
    // Scientific notation.
    {"1200", "1.2e3", true},
    {"1200", "1.2E+3", true},
    {"0.0012", "1.2e-3", true},
    {"1200", "1.2\\times 10^3", true},
    {"1200", "1.2 \\times 10^{3}", true},
    {"1200", "1.2 \\cdot 10^{3}", true},
    {"1200", "1.2 × 10^3", true},
    {"0.0012", "1.2\\times10^{-3}", true},
    {"1000", "10^3", true},
    {"1000", "10^{3}", true},
    {"1000", "10^4", false},
    {"-1000", "-10^3", true},
    {"6.02e23", "602000000000000000000000", true},
    {"1e999999", "1e999999", true},
    {"1e999999", "1e999998", false},
    {"0", "0e999999", true},
    {"1", "1e99999999999999999999", false},
    {"1200", "1.2e3.0", false},
    {"1200", "1.2\\times 20^3", false},
    {"5", "5e", false},
    // Fractions.
    {"1/2", "0.5", true},
    {"1/2", "2/4", true},
    {"1/2", "\\frac{1}{2}", true},
    {"1/2", "\\frac12", true},
    {"1/2", "\\frac 1 2", true},
    {"1/2", "\\frac1{2}", true},
    {"1/2", "\\frac{1}2", true},
    {"1/2", "\\dfrac{1}{2}", true},
    {"1/2", "\\tfrac{1}{2}", true},
    {"1/2", "\\frac{ 1 }{ 2 }", true},
    {"1/2", "1 / 2", true},
    {"1/2", "2/1", false},
    {"-1/2", "\\frac{-1}{2}", true},
    {"-1/2", "-\\frac{1}{2}", true},
    {"-1/2", "\\frac{1}{-2}", true},
    {"1/2", "\\frac{-1}{-2}", true},
    {"-1/2", "\\frac{1}{2}", false},
    {"1/3", "0.3333333333", false},
    {"1/3", "0.33", false},
    {"1/3", "2/6", true},
    {"1/3", "100/300", true},
    {"2", "4/2", true},
    {"3/4", "\\frac{0.75}{1}", true},
    {"3/4", "0.3/0.4", true},
    {"1000/3", "1,000/3", true},
    {"1/8", "12.5\\%", true},
    {"1/0", "1/0", true},
    {"0", "0/5", true},
    {"0", "5/0", false},
    {"1", "0/0", false},
    {"1", "1/1/1", false},
    {"3/2", "1 1/2", true},
    {"3/2", "1\\frac{1}{2}", true},
    {"3/2", "1 \\frac{1}{2}", true},
    {"-3/2", "-1\\frac{1}{2}", true},
    {"5/2", "1\\frac{3}{2}", false},
    {"3", "2\\frac{2}{2}", false},
    {"12345678901234567890/3", "4115226300411522630", true},
    {"1/98765432109876543210", "2/197530864219753086420", true},
    {"1/98765432109876543210", "2/197530864219753086421", false},
    {"22/7", "3.142857142857", false},
    {"1/1024", "0.0009765625", true},
    // Percent.
    {"50%", "0.5", true},
    {"50%", "1/2", true},
    {"12.5%", "12.5\\%", true},
    {"0.125", "12.5\\%", true},
    {"50%", "50", false},
    {"50", "50%", false},
    {"50%", "50 percent", true},
    {"150%", "1.5", true},
    {"50%", "50%%", false},
    // Dollars, units, degrees.
    {"5", "$5", true},
    {"5", "\\$5", true},
    {"5.00", "\\$5.00", true},
    {"5", "$5$", true},
    {"5", "\\(5\\)", true},
    {"5", "5 cm", true},
    {"5", "5\\text{ cm}", true},
    {"5", "5\\,\\mathrm{cm}", true},
    {"5 cm", "5 centimeters", true},
    {"5 cm", "5", true},
    {"5 cm", "5 m", false},
    {"5 cm", "50 mm", false},
    {"5 cm^2", "5 \\text{ square centimeters}", true},
    {"5 cm^2", "5 cm", false},
    {"5 cm^2", "5 cm²", true},
    {"5 km/h", "5 kilometers per hour", true},
    {"5 km/h", "5 km", false},
    {"90", "90^\\circ", true},
    {"90", "90^{\\circ}", true},
    {"90", "90°", true},
    {"90", "90 degrees", true},
    {"5", "5x", false},
    {"5", "5i", false},
    {"5", "5m", false},
    {"5", "5 m", true},
    {"5", "5\\pi", false},
    {"5", "5 million", false},
    {"5", "5!", false},
    {"5", "5^2", false},
    {"1/2", "1/2 hour", true},
    // The look of a formula.
    {"5", "\\boxed{5}", true},
    {"5", "\\left(5\\right)", true},
    {"5", "(5)", true},
    {"5", "{5}", true},
    {"5", "((5))", true},
    {"5", "\\displaystyle 5", true},
    {"5", "\\mathbf{5}", true},
    {"5", "\\text{5}", true},
    {"5", "x=5", true},
    {"5", "x = 5", true},
    {"x = 5", "5", true},
    {"5", "x = y = 5", false},
    {"5", "x < 5", false},
    {"5", "(5", false},
    {"5", "{5", false},
    // Lists.
    {"1,2,3", "1, 2, 3", true},
    {"1, 2, 3", "1,2,3", true},
    {"1,2,3", "(1,2,3)", true},
    {"(1,2)", "1,2", true},
    {"[1,2]", "(1,2)", false},
    {"(1,2]", "(1,2)", false},
    {"[1,2]", "[1, 2.0]", true},
    {"[1,2]", "1,2", false},
    {"\\{1,2\\}", "\\{1, 2\\}", true},
    {"\\{1,2\\}", "(1,2)", false},
    {"1,2,3", "3,2,1", false},
    {"1,2,3", "1,2", false},
    {"1,2", "1,2,3", false},
    {"1,2", "1,,2", false},
    {"1/2, 0.25", "0.5, 1/4", true},
    {"100,200", "100, 200", true},
    {"100, 200", "100,200", true},
    {"100,200", "100,201", false},
    {"(100,200)", "100200", true},
    {"12, 345, 678", "12,345,678", true},
    {"(1,(2,3))", "(1, (2, 3))", true},
    {"((1,2),3)", "(1,(2,3))", false},
    {"(1,2)", "(1,2", false},
    {"a,b", "a, b", true},
    {"a,b", "b,a", false},
    // Text.
    {">", ">", true},
    {">", "<", false},
    {">", "\\gt", true},
    {"Yes", "yes", true},
    {"yes", "\\text{Yes}", true},
    {"yes", "no", false},
    {"A", "A", true},
    {"A", "a", false},
    {"A", "(A)", true},
    {"x+1", "x + 1", true},
    {"x+1", "1+x", false},
    {"a b", "ab", false},
    {"\\frac{\\sqrt{2}}{2}", "\\dfrac{\\sqrt{2}}{2}", true},
    {"\\sqrt{2}", "\\sqrt{3}", false},
    {"1/2004!", "1/2006!", false},
    {"2^{10}", "2^{10}", true},
    {"2^{10}", "2^{11}", false},
    {"nan", "nan", true},
    {"5", "nan", false},
    {"5", "inf", false},
    {"1e5", "0x186a0", false},
};

TEST(MathAnswerTest, JudgesEveryPairOfTheTable) {
  EXPECT_GE(std::size(kPairs), 150u);
  for (const Pair& pair : kPairs) {
    EXPECT_EQ(SameMathAnswer(pair.gold, pair.answer), pair.same)
        << "gold \"" << pair.gold << "\", answer \"" << pair.answer << "\"";
  }
}

TEST(MathAnswerTest, AnAnswerEqualsItselfInBothDirections) {
  for (const Pair& pair : kPairs) {
    if (!pair.same) continue;
    EXPECT_TRUE(SameMathAnswer(pair.answer, pair.gold))
        << "gold \"" << pair.answer << "\", answer \"" << pair.gold << "\"";
  }
}

TEST(MathAnswerTest, RefusesGoldAnswersThatCannotBeUnderstood) {
  for (const char* gold : {"", "   ", "$$", "{5", "5}", "\\frac{1}{2", "1/0", "1.2.3", "1,,2", "%",
                           "1/2/3", "12 34"}) {
    const absl::Status status = CheckMathGold(gold);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << gold;
    EXPECT_FALSE(status.message().empty());
  }
}

TEST(MathAnswerTest, AcceptsGoldAnswersOfEveryKind) {
  for (const char* gold : {"5", "-3", "1,234", "1, 2, 3", "1/2", "12.5%", "\\frac{1}{2}", "5 cm",
                           "x+1", ">", "yes", "(1,2)", "x=5", "\\sqrt{2}", "2020-01-05"}) {
    EXPECT_TRUE(CheckMathGold(gold).ok()) << gold << ": " << CheckMathGold(gold);
  }
}

}  // namespace
}  // namespace tramontane
