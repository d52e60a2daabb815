#include "cli/presets.h"

#include <iomanip>
#include <iostream>
#include <map>
#include <string>

#include "common/presets.h"
#include "common/status.h"

namespace tramontane {
namespace {

Json About(const Preset& preset) {
  return {{"name", preset.name},
          {"source", preset.source},
          {"undisclosed", preset.undisclosed},
          {"needs", preset.needs}};
}

// Fields by dotted path; a schedule is one field.
void Flatten(const Json& node, const std::string& path, std::map<std::string, Json>& fields) {
  for (const auto& [key, value] : node.items()) {
    const std::string where = path.empty() ? key : path + "." + key;
    if (value.is_object() && path != "schedules") {
      Flatten(value, where, fields);
    } else {
      fields[where] = value;
    }
  }
}

std::map<std::string, Json> FieldsOf(const Preset& preset) {
  std::map<std::string, Json> fields;
  Flatten(preset.config, "", fields);
  return fields;
}

int List(const CommandContext& context) {
  Json list = Json::array();
  for (const std::string& name : PresetNames()) {
    const auto preset = FindPreset(name);
    if (!preset.ok()) return Fail(context, "presets", preset.status());
    list.push_back(About(*preset));
  }
  if (context.json) return PrintJson({{"presets", list}});
  for (const Json& about : list) {
    std::cout << std::left << std::setw(18) << about["name"].get<std::string>()
              << about["source"].get<std::string>() << "\n";
  }
  return 0;
}

int Show(const CommandContext& context, const std::string& name) {
  const auto preset = FindPreset(name);
  if (!preset.ok()) return Fail(context, "presets", preset.status());
  Json shown = About(*preset);
  shown["config"] = preset->config;
  if (context.json) return PrintJson(shown);
  std::cout << name << "\n  source:      " << preset->source << "\n";
  if (!preset->undisclosed.empty()) std::cout << "  undisclosed: " << preset->undisclosed << "\n";
  if (!preset->needs.empty()) std::cout << "  needs:       " << preset->needs << "\n";
  std::cout << "\n";
  for (const auto& [path, value] : FieldsOf(*preset))
    std::cout << "  " << path << ": " << value.dump() << "\n";
  return 0;
}

// What one sets otherwise than the other; null where it leaves the default.
int Diff(const CommandContext& context, const std::string& first, const std::string& second) {
  const auto a = FindPreset(first), b = FindPreset(second);
  for (const auto* preset : {&a, &b}) {
    if (!preset->ok()) return Fail(context, "presets", preset->status());
  }
  std::map<std::string, Json> left = FieldsOf(*a), right = FieldsOf(*b), all = left;
  all.insert(right.begin(), right.end());
  Json changes = Json::object();
  for (const auto& [path, unused] : all) {
    const Json from = left.contains(path) ? left[path] : Json(),
               to = right.contains(path) ? right[path] : Json();
    if (from != to) changes[path] = Json::array({from, to});
  }
  if (context.json) return PrintJson({{"a", first}, {"b", second}, {"changes", changes}});
  const auto text = [](const Json& value) {
    return value.is_null() ? std::string("default") : value.dump();
  };
  for (const auto& [path, change] : changes.items()) {
    std::cout << path << ": " << text(change[0]) << " -> " << text(change[1]) << "\n";
  }
  return 0;
}

}  // namespace

int PresetsCommand(const CommandContext& context, const PresetsArguments& arguments) {
  if (!arguments.diff.empty()) return Diff(context, arguments.diff[0], arguments.diff[1]);
  return arguments.name.empty() ? List(context) : Show(context, arguments.name);
}

}  // namespace tramontane
