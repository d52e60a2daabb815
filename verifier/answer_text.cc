#include "verifier/answer_text.h"

#include "verifier/format_gate.h"

namespace tramontane {
namespace {

constexpr std::string_view kFence = "```";

// Without the language named behind the opening fence.
std::optional<std::string> FirstCodeBlock(std::string_view text) {
  const size_t open = text.find(kFence);
  if (open == std::string_view::npos) return std::nullopt;
  const size_t line = text.find('\n', open + kFence.size());
  if (line == std::string_view::npos) return std::nullopt;
  const size_t close = text.find(kFence, line + 1);
  if (close == std::string_view::npos) return std::nullopt;
  return std::string(text.substr(line + 1, close - line - 1));
}

}  // namespace

std::optional<std::string> ExtractAnswer(std::string_view response, std::string_view think_close) {
  if (const size_t close = response.rfind(think_close); close != std::string_view::npos)
    response.remove_prefix(close + think_close.size());
  if (std::optional<std::string> boxed = LastBoxed(response)) return boxed;
  return FirstCodeBlock(response);
}

}  // namespace tramontane
