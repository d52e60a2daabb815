// What stands around the mathematics of an answer taken away: the box, units and words behind it,
// "and" between two of them. Pure, linear in the text.
#pragma once

#include <string>
#include <string_view>

namespace tramontane::math {

// The contents of the boxes that belong together, joined by commas: the last box, and those before
// it that only a few characters separate (\boxed{1} and \boxed{2}). `text` itself without a box.
std::string JoinedBoxes(std::string_view text);

// Ready for Tokenize() (lexer.h): "15\mbox{ cm}^2" → "15", "5 miles" → "5", "1 and 2" → "1 , 2",
// "20 percent" → "20 %", "1{,}000" → "1,000".
std::string Prepared(std::string_view text);

}  // namespace tramontane::math
