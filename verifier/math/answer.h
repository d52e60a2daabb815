// Whether a mathematical answer says what the gold answer says. Takes LaTeX, plain text, and prose
// with an answer in it. Follows math-verify 0.9.0, also where it is generous; tests/golden/verifier
// holds a table of pairs with both verdicts, docs/graders.md the differences.
//
// Pure and thread-safe; the same verdict on any machine, but for the second opinion. Bounded: linear
// in the text, and the comparison may cost what a Budget (ball.h) allows, some 50 ms at the very
// most, and kMostOpinions opinions.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace tramontane::math {

// Whether two scalar expressions, as ExprText() (tree_text.h) writes them, are equal. Nothing: it
// cannot tell either.
using SecondOpinion =
    std::function<std::optional<bool>(const std::string& gold, const std::string& answer)>;
inline constexpr int kMostOpinions = 4;  // asked for about one answer

struct AnswerOptions {
  int decimals = 6;      // numbers with a decimal point are compared to so many places
  // Numbers must be written out (no 2+3 for 5), and lists keep their order. For tasks whose prompt
  // holds an expression equal to its answer.
  bool literal = false;
  SecondOpinion opinion = nullptr;  // asked where values cannot tell
  bool doubts_difference = false;   // and where they tell that expressions with symbols differ
};

inline constexpr size_t kMaxAnswerBytes = 1 << 20;

bool SameMathAnswer(std::string_view gold, std::string_view answer,
                    const AnswerOptions& options = {});

// The answer as it was found in `text`: what stands in its boxes, else the likeliest formula.
std::string FoundAnswer(std::string_view text);

// InvalidArgument when a gold answer is empty, longer than kMaxAnswerBytes, has unbalanced braces,
// or is made of digits and yet no number ("1/0", "1.2.3").
absl::Status CheckMathGold(std::string_view gold);

}  // namespace tramontane::math
