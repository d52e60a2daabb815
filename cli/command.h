// What every command shares: where its results and errors go.
#pragma once

#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "common/rollout.h"
#include "services/tool_main.h"

namespace tramontane {

struct CommandContext {
  bool json = false;       // one JSON document on standard output, errors included
  std::string binary_dir;  // folder of this program and its siblings
};

// {"error": {"code", "message", "where"}} on standard output, or one line on standard error.
// Returns the exit status: 1.
inline int Fail(const CommandContext& context, const std::string& where,
                const absl::Status& status) {
  if (context.json) {
    PrintDocument(std::cout, ErrorDocument(where, status));
  } else {
    std::cout.flush();
    std::cerr << "tramontane " << where << ": " << status.message() << "\n";
  }
  return 1;
}

inline int PrintJson(const Json& json) {
  PrintDocument(std::cout, json);
  return 0;
}

}  // namespace tramontane
