// The face of a command-line tool: one JSON document in, one out (docs/cli.md).
#pragma once

#include <functional>
#include <istream>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

// Reads `in` as one JSON document, runs the tool, prints its document and returns 0; an error is
// printed as {"error": {"code", "message", "where"}} and returns 1. `where` names the tool.
// The input keeps the order of its keys: chat templates show it.
int RunJsonTool(const std::string& where, std::istream& in, std::ostream& out,
                const std::function<absl::StatusOr<Json>(const nlohmann::ordered_json&)>& tool);

// The same for tools without input.
int PrintJsonResult(const std::string& where, std::ostream& out, const absl::StatusOr<Json>& result);

}  // namespace tramontane
