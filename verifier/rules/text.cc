#include "verifier/rules/text.h"

namespace tramontane {

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
