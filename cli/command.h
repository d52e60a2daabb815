// What every command shares: where its results and errors go.
#pragma once

#include <cstdio>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "common/rollout.h"

namespace tramontane {

struct CommandContext {
  bool json = false;        // one JSON document on standard output, errors included
  std::string binary_dir;   // folder of this program and its siblings
};

// {"error": {"code", "message", "where"}} on standard output, or one line on standard error.
// Returns the exit status: 1.
inline int Fail(const CommandContext& context, const std::string& where, const absl::Status& status) {
  const std::string message(status.message());
  if (context.json) {
    const Json error = {{"code", absl::StatusCodeToString(status.code())},
                        {"message", message}, {"where", where}};
    std::cout << Json({{"error", error}}).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    std::cout.flush();
    std::cerr << "tramontane " << where << ": " << message << "\n";
  }
  return 1;
}

inline int PrintJson(const Json& json) {
  std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  return 0;
}

}  // namespace tramontane
