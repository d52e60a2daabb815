// Where an answer lies in a text, for the rules and terms that share it. Pure.
#pragma once

#include <string_view>

#include "verifier/ascii.h"

namespace tramontane {

// The inside of the last fenced block (```json … ```) when there is one, else `text`, trimmed.
std::string_view WithoutFence(std::string_view text);

}  // namespace tramontane
