// Small text helpers that the rules and terms share. Pure.
#pragma once

#include <string>
#include <string_view>

namespace tramontane {

std::string_view Trimmed(std::string_view text);
std::string Lowered(std::string_view text);  // ASCII letters

// The inside of the last fenced block (```json … ```) when there is one, else `text`, trimmed.
std::string_view WithoutFence(std::string_view text);

}  // namespace tramontane
