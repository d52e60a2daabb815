// Values that are rational numbers, computed without rounding. Everything is bounded: a result of
// more than kMaxBits bits is not computed, so a power tower costs nothing.
#pragma once

#include <gmpxx.h>

#include <optional>

#include "verifier/math/expr.h"

namespace tramontane::math {

inline constexpr size_t kMaxBits = 1 << 15;

// Absent when the value is not rational, not defined, has symbols in it, or is too large.
std::optional<mpq_class> ExactValue(const Expr& e);

// The nearest integer multiple of 10^-decimals, as that integer; halves go up.
mpz_class Rounded(const mpq_class& value, int decimals);

}  // namespace tramontane::math
