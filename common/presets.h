// Published recipes as configurations: presets/*.yaml, built into every program. A configuration
// that says `preset: NAME` is laid over that recipe, key by key.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

struct Preset {
  std::string name;
  std::string source;       // paper or code, with section
  std::string undisclosed;  // what the source does not say and we chose; empty: nothing
  std::string needs;        // what the recipe has beyond this configuration; empty: nothing
  Json config;              // the fields it sets, in the shape of a configuration
};

std::vector<std::string> PresetNames();  // sorted

// InvalidArgument lists the names there are.
absl::StatusOr<Preset> FindPreset(const std::string& name);

// `over` laid over `base`, as below.
void LayOver(const Json& over, Json& base);

// `config` over the recipe that config["preset"] names, if any. Mappings are merged, everything
// else is replaced; `schedules` is replaced as a whole, so that a recipe's schedule can be taken
// away.
absl::StatusOr<Json> LayOverPreset(Json config);

}  // namespace tramontane
