// UTF-8 decoding with replacement, as Python's and Rust's: each maximal invalid part becomes one
// U+FFFD. Pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tramontane {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Appends to `out` the text of `bytes` that no further byte can change, and returns how many bytes
// that was: all of them, except for an incomplete character at the end (at most 3 bytes).
size_t AppendCertainUtf8(std::string_view bytes, std::string* out);

bool IsValidUtf8(std::string_view bytes);

}  // namespace tramontane
