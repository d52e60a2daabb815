// Whether two answers are the same: the decisions of math-verify 0.9.0 (grader.py) over our trees,
// with numeric probing (probe.h) in place of computer algebra, which is asked only where probing
// cannot tell. Not symmetric: the gold answer says what form is asked for.
#pragma once

#include "verifier/math/answer.h"
#include "verifier/math/ball.h"
#include "verifier/math/expr.h"

namespace tramontane::math {

// gold and answer of any kind. False when the budget runs out.
bool SameAnswer(const ExprPtr& gold, const ExprPtr& answer, const AnswerOptions& options,
                Budget& budget);

}  // namespace tramontane::math
