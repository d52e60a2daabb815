#include "verifier/numeric.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <string>

namespace tramontane {
namespace {

ExactNumber Value(const std::string& text) {
  const auto quantity = ParseQuantity(text);
  EXPECT_TRUE(quantity) << text;
  return quantity ? quantity->value : ExactNumber{};
}

TEST(NumericTest, KeepsNumbersInOneForm) {
  const ExactNumber n = Value("-0012300.4500");
  EXPECT_TRUE(n.negative);
  EXPECT_EQ(n.numerator, "1230045");
  EXPECT_EQ(n.denominator, "1");
  EXPECT_EQ(n.exponent, -2);
}

TEST(NumericTest, ZeroHasOneFormHoweverWritten) {
  for (const char* text : {"0", "-0", "0.000", "0e50", "0/7", "\\frac{0}{3}", "0%"}) {
    const ExactNumber n = Value(text);
    EXPECT_FALSE(n.negative) << text;
    EXPECT_EQ(n.numerator, "0") << text;
    EXPECT_EQ(n.exponent, 0) << text;
  }
}

// The oracle: 64-bit integers, where nothing overflows.
TEST(NumericTest, AgreesWithIntegerArithmeticOnRandomFractions) {
  std::mt19937_64 random(7);
  std::uniform_int_distribution<int64_t> draw(-12, 12), scale(1, 6);
  int equal = 0;
  for (int i = 0; i < 20000; ++i) {
    const int64_t a = draw(random), c = draw(random), b = scale(random), d = scale(random);
    const bool same = a * d == c * b;
    equal += same;
    ASSERT_EQ(SameValue(Value(std::to_string(a) + "/" + std::to_string(b)),
                        Value(std::to_string(c) + "/" + std::to_string(d))),
              same)
        << a << "/" << b << " and " << c << "/" << d;
  }
  EXPECT_GT(equal, 200);
}

TEST(NumericTest, MixedNumbersAreSumsOfWholeAndFraction) {
  for (int whole = 0; whole < 12; ++whole) {
    for (int bottom = 2; bottom < 25; ++bottom) {
      for (int top = 1; top < bottom; ++top) {
        const std::string mixed = std::to_string(whole) + " " + std::to_string(top) + "/" + std::to_string(bottom);
        const std::string improper = std::to_string(whole * bottom + top) + "/" + std::to_string(bottom);
        ASSERT_TRUE(SameValue(Value(mixed), Value(improper))) << mixed << " " << improper;
      }
    }
  }
}

TEST(NumericTest, TerminatingExpansionsOfLongFractionsAreFound) {
  // 1/2^200 = 5^200 / 10^200, by repeated doubling and halving of decimal strings.
  std::string power = "1";
  std::string half = "1";
  for (int i = 0; i < 200; ++i) {
    const auto times = [](const std::string& digits, int factor) {
      std::string out;
      int carry = 0;
      for (size_t k = digits.size(); k-- > 0;) {
        const int v = (digits[k] - '0') * factor + carry;
        out.insert(out.begin(), static_cast<char>('0' + v % 10));
        carry = v / 10;
      }
      if (carry > 0) out.insert(0, std::to_string(carry));
      return out;
    };
    power = times(power, 2);
    half = times(half, 5);
  }
  EXPECT_TRUE(SameValue(Value("1/" + power), Value(half + "e-200")));
  EXPECT_FALSE(SameValue(Value("1/" + power), Value(half + "e-201")));
  half.back() = half.back() == '5' ? '6' : '5';
  EXPECT_FALSE(SameValue(Value("1/" + power), Value(half + "e-200")));
}

TEST(NumericTest, RefusesWhatIsNotOneNumber) {
  for (const char* text : {"", " ", "-", "+", ".", "e5", "1e", "1/", "/2", "1/0", "1..2", "1 2",
                           "\\frac", "\\frac{1}", "\\frac{1}{0}", "\\frac{a}{b}", "10^", "10^{3",
                           "10^{99999999999}", "x", "5x", "1+1", "--1", "0x10", "1,23"}) {
    EXPECT_FALSE(ParseQuantity(text)) << text;
  }
}

TEST(NumericTest, UnitsAreReadIntoOneSpelling) {
  EXPECT_EQ(ParseQuantity("5 feet")->unit, "ft");
  EXPECT_EQ(ParseQuantity("5 square feet")->unit, "ft^2");
  EXPECT_EQ(ParseQuantity("5 m/s^2")->unit, "m/s^2");
  EXPECT_EQ(ParseQuantity("5 miles per hour")->unit, "mi/h");
  EXPECT_EQ(ParseQuantity("5°")->unit, "°");
  EXPECT_EQ(ParseQuantity("5 °C")->unit, "°C");
  EXPECT_EQ(ParseQuantity("5")->unit, "");
  EXPECT_FALSE(ParseQuantity("5 apples"));
  EXPECT_FALSE(ParseQuantity("5 cm and"));
  EXPECT_FALSE(ParseQuantity("5 cm/"));
}

}  // namespace
}  // namespace tramontane
