// Where the answer stands in a piece of prose. Looked for in this order, as math-verify 0.9.0 does:
// "final answer is …" and boxes, "answer: …", "answer …", then the last formula or number; of equals
// the rightmost first. Linear-time expressions only (RE2); of a long text the end is read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tramontane::math {

// Whether `text` is prose with mathematics in it rather than a formula: it has delimiters ($, \(,
// \[, \boxed) or several words.
bool IsProse(std::string_view text);

// Formulas in the order in which they should be tried; the first that can be read is the answer.
std::vector<std::string> AnswerCandidates(std::string_view text);

}  // namespace tramontane::math
