// The program in an answer: its first fenced code block. Pure, linear.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tramontane {

struct ProgramText {
  std::string source;
  std::string language;  // of the fence: "python", "cpp"; empty when it names none or another
};

// `answer` is what follows the thoughts. Absent when it has no fenced block.
std::optional<ProgramText> FindProgram(std::string_view answer);

}  // namespace tramontane
