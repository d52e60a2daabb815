// Equality of scalar expressions, decided by their values: exactly where they are rational, else in
// ball arithmetic at random points of their symbols. The points come from the symbols' names, so a
// verdict never changes. Pure.
//
// Two different expressions of the size of an answer agree to 60 bits at three random points with a
// chance of some 2^-180, so probing does not err on the side of yes; and where it cannot decide (no
// point has a value) it says so.
#pragma once

#include <optional>

#include "verifier/math/ball.h"
#include "verifier/math/expr.h"

namespace tramontane::math {

// Equal wherever both have a value.
enum class Sameness { kSame, kDifferent, kUnknown };
Sameness CompareValues(const Expr& a, const Expr& b, Budget& budget);

// The value of a constant: real and finite, or ±infinity. Absent for anything else.
std::optional<double> RealValue(const Expr& e, Budget& budget);

// A real constant, rounded to a whole number of 10^-decimals.
std::optional<mpz_class> RoundedValue(const Expr& e, int decimals, Budget& budget);

// The sign of a real constant; 0 when it is zero to 60 bits.
std::optional<int> Sign(const Expr& e, Budget& budget);

// Whether `f` = 0 and `g` = 0 say the same: they have
// the same real roots in one symbol wherever the others are put, and at least one.
bool SameZeros(const Expr& f, const Expr& g, Budget& budget);

// `e` with every symbol `name` replaced.
ExprPtr Substitute(const ExprPtr& e, const std::string& name, const ExprPtr& value);

}  // namespace tramontane::math
