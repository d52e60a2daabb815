// YAML text as JSON, for the configuration and the presets. Plain scalars become null, booleans,
// integers or numbers where they read as such; quoted ones stay strings.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

// InvalidArgument: not YAML, a key that stands twice, nested deeper than 32 levels.
absl::StatusOr<Json> YamlToJson(const std::string& text);

}  // namespace tramontane
