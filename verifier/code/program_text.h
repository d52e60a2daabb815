// The program or patch in an answer: its first fenced code block. Pure, linear.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tramontane {

// CommonMark's fences: a line of three or more backticks or tildes, indented by at most three
// blanks, closed by a line of at least as many. One that is never closed holds the rest. Views of
// the text that was searched.
struct FencedBlock {
  std::string_view info, body;
};
std::optional<FencedBlock> FirstFencedBlock(std::string_view text);

struct ProgramText {
  std::string source;
  std::string language;  // of the fence: "python", "cpp"; empty when it names none or another
};

// `answer` is what follows the thoughts. Absent when it has no fenced block.
std::optional<ProgramText> FindProgram(std::string_view answer);

}  // namespace tramontane
