// Scalar expressions as JSON, for a computer algebra system: nothing of what a policy wrote is ever
// evaluated as text. Pure.
//
//   ["n", "3/4"]  ["s", "x_1"]  ["c", "pi"|"e"|"i"|"infinity"]
//   ["+", …]  ["*", …]  ["^", base, exponent]  ["%", x]
//   ["f", "sin", …]  ["m", columns, …]
#pragma once

#include <optional>
#include <string>

#include "verifier/math/expr.h"

namespace tramontane::math {

// Absent for what is no scalar, and for what would be longer than 16 KiB.
std::optional<std::string> ExprText(const Expr& e);

}  // namespace tramontane::math
