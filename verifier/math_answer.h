// Whether two short mathematical answers mean the same. Exact: rationals are compared as
// rationals, never as floating point. Pure, thread-safe, linear in the text.
//
//   numbers     1,234 = 1234.0 = 1.234e3; 1/2 = \frac12 = 0.5 = 50%; 1\frac12 = 3/2
//   units       5 cm = 5, but 5 cm ≠ 5 m (nothing is converted); only known units are units
//   lists       element by element, in order: (1, 2) = 1,2; brackets of two kinds differ
//   the rest    equal as text, once blanks and what changes only the look are removed
//
// "x = 5" is read as 5. A percent sign divides by a hundred, so 50% is 1/2 and not 50.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace tramontane {

bool SameMathAnswer(std::string_view gold, std::string_view answer);

// InvalidArgument when a gold answer is empty, has unbalanced braces, or is made of digits and
// yet no number ("1/0", "1.2.3").
absl::Status CheckMathGold(std::string_view gold);

}  // namespace tramontane
