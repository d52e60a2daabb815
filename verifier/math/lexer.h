// LaTeX, Unicode or plain mathematics cut into tokens. What only changes the look (spaces, \left,
// \displaystyle, dollar signs) gives none, and every spelling of a sign gives the same token.
// Pure, linear in the text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tramontane::math {

enum class TokenType {
  kNumber,   // digits with at most one point; or with an exponent: 1.5E3
  kName,     // a symbol, in lower case: a letter, a Greek letter, the words of \text{…}
  kCommand,  // a command of one meaning, without its backslash: frac, sqrt, sin, pi, cup, pm, …
  kSign,     // + - * / ^ _ ( ) [ ] { } \{ \} | , ; : ! = < > <= >= != ~ % & \\ '
};

struct Token {
  TokenType type;
  std::string text;
  bool spaced = false;  // blanks stood before it
};

inline constexpr size_t kMaxTokens = 4000;

// Absent for a character that has no meaning in mathematics, an unclosed \text{, or more tokens
// than kMaxTokens.
std::optional<std::vector<Token>> Tokenize(std::string_view text);

}  // namespace tramontane::math
