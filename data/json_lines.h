// JSONL files as hostile input: one object a line, with caps on line length, depth and rows.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"

namespace tramontane {

struct JsonLinesLimits {
  size_t max_line_bytes = size_t{16} << 20;
  int max_depth = 64;
  size_t max_rows = 100'000'000;
};

// Calls `row` for each line that is not blank, in order. Errors, of the file or of `row`, come back
// as "path:line: …" with their code; the first one ends the reading. Keys keep their order.
absl::Status ForEachJsonLine(
    const std::string& path, const JsonLinesLimits& limits,
    const std::function<absl::Status(size_t line, const nlohmann::ordered_json& row)>& row);

}  // namespace tramontane
