// The answer in a response's text. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tramontane {

// After the closing think tag (in the whole text where there is none): the content of the last
// \boxed{} whose braces balance, or else of the first fenced code block. Nothing: no answer.
std::optional<std::string> ExtractAnswer(std::string_view response,
                                         std::string_view think_close = "</think>");

}  // namespace tramontane
