// The face of a command-line tool: arguments, one JSON document in, one out (docs/cli.md).
#pragma once

#include <functional>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace CLI {
class App;
}

namespace tramontane {

// Parses the arguments of a program. A value is the exit status to end with: 0 when --help or
// --version was answered, 1 when the arguments are wrong. What is wrong is then a JSON error on
// `out` if --json is among the arguments, one line on `err` otherwise.
std::optional<int> ParseArguments(CLI::App& app, int argc, const char* const* argv,
                                  std::ostream& out, std::ostream& err);

// {"error": {"code", "message", "where"}}; `where` names the tool.
Json ErrorDocument(const std::string& where, const absl::Status& status);

// One line. Invalid UTF-8 (a byte-level token cut in half) is replaced rather than thrown at the
// caller.
void PrintDocument(std::ostream& out, const Json& document);

// Reads `in` as one JSON document, runs the tool, prints its document and returns 0; an error is
// printed as ErrorDocument and returns 1. The input keeps the order of its keys: chat templates
// show it.
int RunJsonTool(const std::string& where, std::istream& in, std::ostream& out,
                const std::function<absl::StatusOr<Json>(const nlohmann::ordered_json&)>& tool);

// The same for tools without input.
int PrintJsonResult(const std::string& where, std::ostream& out,
                    const absl::StatusOr<Json>& result);

}  // namespace tramontane
