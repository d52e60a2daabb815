#include "verifier/rules/text.h"

#include <algorithm>

namespace tramontane {

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string Lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view WithoutFence(std::string_view text) {
  constexpr std::string_view kFence = "```";
  const size_t close = text.rfind(kFence);
  if (close == text.npos || close == 0) return Trimmed(text);
  const size_t open = text.rfind(kFence, close - 1);
  if (open == text.npos) return Trimmed(text);
  const size_t line = text.find('\n', open);
  if (line == text.npos || line > close) return Trimmed(text);
  return Trimmed(text.substr(line + 1, close - line - 1));
}

}  // namespace tramontane
