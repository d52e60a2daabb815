// Exact numbers as people and models write them: integers of any length, decimals, fractions,
// mixed numbers, scientific notation, percent, thousands separators, LaTeX or plain.
//
// Nothing is ever rounded, and no power is ever expanded: a number is (numerator, denominator,
// power of ten), so 1e999999 costs seven characters. Pure functions, thread-safe, time linear in
// the text except for the product of two bounded fractions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tramontane {

// sign · numerator / denominator · 10^exponent. Digit strings have neither leading nor trailing
// zeros (those of the end sit in the exponent); zero is {false, "0", "1", 0}.
struct ExactNumber {
  bool negative = false;
  std::string numerator = "0";
  std::string denominator = "1";
  int64_t exponent = 0;
};

// Equality of values: 0.5, 1/2, 2/4 and 50% are the same number.
bool SameValue(const ExactNumber& a, const ExactNumber& b);

struct Quantity {
  ExactNumber value;
  std::string unit;  // as written, spaces removed; empty when there was none
};

// Longest text read as one number, and longest numerator or denominator of a fraction. Plain
// integers and decimals are only bounded by the former.
inline constexpr size_t kMaxNumberBytes = 1 << 20;
inline constexpr size_t kMaxFractionDigits = 2000;
inline constexpr int64_t kMaxExponent = 1'000'000'000;

// Reads the whole of `text`, which CleanMath() (latex.h) has been through. Absent when it is not one
// number: an expression, a variable, a division by zero, anything beyond the caps.
std::optional<Quantity> ParseQuantity(std::string_view text);

}  // namespace tramontane
