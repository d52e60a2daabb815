#include "common/presets.h"

#include <utility>

#include "common/preset_texts.h"
#include "common/status.h"
#include "common/yaml_json.h"

namespace tramontane {
namespace {

absl::StatusOr<Preset> ReadPreset(const std::string& name, const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, YamlToJson(text));
  if (!json.is_object() || !json.contains("config"))
    return absl::InvalidArgumentError("no `config`");
  Preset preset;
  preset.name = name;
  for (const auto& [key, value] : json.items()) {
    if (key == "config") {
      preset.config = value;
      continue;
    }
    std::string* field = key == "source"        ? &preset.source
                         : key == "undisclosed" ? &preset.undisclosed
                         : key == "needs"       ? &preset.needs
                                                : nullptr;
    if (field == nullptr || !value.is_string())
      return absl::InvalidArgumentError("'" + key + "' is not a line of text");
    *field = value.get<std::string>();
  }
  return preset;
}

}  // namespace

void LayOver(const Json& over, Json& base) {
  for (const auto& [key, value] : over.items()) {
    Json& below = base[key];
    if (value.is_object() && below.is_object() && key != "schedules") {
      LayOver(value, below);
    } else if (!(value.is_null() && below.is_object())) {  // "trainer:" with nothing under it
      below = value;
    }
  }
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const PresetText& preset : PresetTexts()) names.emplace_back(preset.name);
  return names;
}

absl::StatusOr<Preset> FindPreset(const std::string& name) {
  std::string known;
  for (const PresetText& preset : PresetTexts()) {
    if (name == preset.name) {
      auto read = ReadPreset(name, preset.text);
      if (!read.ok()) return Annotate(read.status(), "presets/" + name + ".yaml");
      return read;
    }
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  return absl::InvalidArgumentError("preset: '" + name + "' is not one of " + known);
}

absl::StatusOr<Json> LayOverPreset(Json config) {
  if (!config.is_object() || !config.contains("preset") || !config["preset"].is_string())
    return config;
  const std::string name = config["preset"];
  if (name.empty()) return config;
  ASSIGN_OR_RETURN(Preset preset, FindPreset(name));
  LayOver(config, preset.config);
  return std::move(preset.config);
}

}  // namespace tramontane
