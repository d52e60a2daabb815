// Tokens → the tree of an answer (expr.h). A recursive descent over the grammar that LaTeX answers
// are written in, as latex2sympy2_extended 1.11 reads them (PS.g4), with these readings:
//
//   1, 2          a set: the order of a bare list means nothing      (1, 2, 3)   a tuple
//   (1, 2)        an open interval, to be compared as a pair too     [1, 2)      an interval
//   1; 2          a set, and of comma lists a set of tuples          a \pm b     both of them
//   x = 1, 2      x = {1, 2}                                         x \in A     x = A
//   x \approx 3   3                                                  2\frac12    a mixed number
//   1/2x          1/(2x): a juxtaposed product binds first           \log x      base ten
//
// Pure. Absent when the tokens are not one such answer, or nest deeper than kMaxDepth.
#pragma once

#include <vector>

#include "verifier/math/expr.h"
#include "verifier/math/lexer.h"

namespace tramontane::math {

ExprPtr Parse(const std::vector<Token>& tokens);  // null: no mathematics

}  // namespace tramontane::math
