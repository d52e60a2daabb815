// Sets of real numbers (intervals, finite sets, unions, intersections, differences) compared with
// each other and with relations in one unknown.
#pragma once

#include <optional>

#include "verifier/math/ball.h"
#include "verifier/math/expr.h"

namespace tramontane::math {

// Two sets of reals hold the same numbers. Absent when an end point is no real constant.
std::optional<bool> SameRegion(const Expr& a, const Expr& b, Budget& budget);

// The reals that make `relation` true are those of `set`: 1 < x <= 2 and (1, 2].
std::optional<bool> SameSolutions(const ExprPtr& relation, const Expr& set, Budget& budget);

}  // namespace tramontane::math
