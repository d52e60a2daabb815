#include "data/json_lines.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

using nlohmann::ordered_json;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// The deepest nesting of brackets outside strings; the parser's output is walked recursively later,
// so this must be known before parsing.
int Depth(const std::string& text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

absl::StatusOr<ordered_json> Parse(const std::string& text, int max_depth) {
  if (Depth(text) > max_depth) {
    return absl::InvalidArgumentError("JSON nested deeper than " + std::to_string(max_depth));
  }
  try {
    ordered_json row = ordered_json::parse(text);
    if (!row.is_object()) return absl::InvalidArgumentError("expected a JSON object");
    return row;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(std::string("bad JSON: ") + error.what());
  }
}

bool IsBlank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

// Reads up to the next newline. False at the end of the file.
absl::StatusOr<bool> ReadLine(std::FILE* file, size_t max_bytes, std::string* line) {
  line->clear();
  bool any = false;
  for (int c; (c = getc_unlocked(file)) != EOF;) {
    any = true;
    if (c == '\n') return true;
    if (line->size() == max_bytes) {
      return absl::InvalidArgumentError("line longer than " + std::to_string(max_bytes) + " bytes");
    }
    line->push_back(static_cast<char>(c));
  }
  if (std::ferror(file)) return ErrnoStatus(errno, "read");
  return any;
}

}  // namespace

absl::Status ForEachJsonLine(
    const std::string& path, const JsonLinesLimits& limits,
    const std::function<absl::Status(size_t line, const ordered_json& row)>& row) {
  const std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return ErrnoStatus(errno, path);
  std::string text;
  size_t rows = 0;
  for (size_t number = 1;; ++number) {
    const std::string where = path + ":" + std::to_string(number);
    const absl::StatusOr<bool> more = ReadLine(file.get(), limits.max_line_bytes, &text);
    if (!more.ok()) return Annotate(more.status(), where);
    if (!*more) return absl::OkStatus();
    if (IsBlank(text)) continue;
    if (++rows > limits.max_rows) return absl::InvalidArgumentError(where + ": too many rows");
    const absl::StatusOr<ordered_json> parsed = Parse(text, limits.max_depth);
    if (!parsed.ok()) return Annotate(parsed.status(), where);
    RETURN_IF_ERROR(Annotate(row(number, *parsed), where));
  }
}

}  // namespace tramontane
