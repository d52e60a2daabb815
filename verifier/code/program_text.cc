#include "verifier/code/program_text.h"

#include <algorithm>

#include "verifier/ascii.h"

namespace tramontane {
namespace {

std::string LanguageOf(std::string_view info) {
  const std::string name = Lowered(info.substr(0, info.find_first_of(" \t{,")));
  if (name == "python" || name == "py" || name == "python3") return "python";
  if (name == "cpp" || name == "c++" || name == "cc" || name == "cxx") return "cpp";
  return "";
}

}  // namespace

std::optional<FencedBlock> FirstFencedBlock(std::string_view text) {
  char mark = 0;
  size_t length = 0, body = 0;
  FencedBlock block;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view line = text.substr(start, end - start);
    const size_t indent = std::min(line.find_first_not_of(' '), line.size());
    const char first = indent < line.size() ? line[indent] : '\0';
    const size_t run = std::min(line.find_first_not_of(first, indent), line.size()) - indent;
    const bool fence = indent <= 3 && (first == '`' || first == '~') && run >= 3;
    if (fence && mark == 0) {
      block.info = Trimmed(line.substr(indent + run));
      if (block.info.find('`') == block.info.npos) {  // else code within a line
        mark = first;
        length = run;
        body = std::min(end + 1, text.size());
      }
    } else if (fence && first == mark && run >= length &&
               Trimmed(line.substr(indent + run)).empty()) {
      block.body = text.substr(body, start - body);
      return block;
    }
    start = end + 1;
  }
  if (mark == 0) return std::nullopt;
  block.body = text.substr(body);
  return block;
}

std::optional<ProgramText> FindProgram(std::string_view answer) {
  const std::optional<FencedBlock> block = FirstFencedBlock(answer);
  if (!block) return std::nullopt;
  return ProgramText{std::string(block->body), LanguageOf(block->info)};
}

}  // namespace tramontane
