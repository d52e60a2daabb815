// A text field of a JSON object, empty when it is absent or no text.
#pragma once

#include <string>

#include "common/rollout.h"

namespace tramontane {

inline std::string TextAt(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace tramontane
