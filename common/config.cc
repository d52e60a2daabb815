#include "common/config.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "common/config_fields.h"
#include "common/files.h"
#include "common/presets.h"
#include "common/status.h"
#include "common/yaml_json.h"

namespace tramontane {
namespace {

// ---------------------------------------------------------------- JSON → struct

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t best = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = std::exchange(row[j], best);
    }
  }
  return row[b.size()];
}

class Reader {
 public:
  Reader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) Fail(path_, "must be a mapping");
  }

  template <class T>
  void operator()(const char* name, T& field, const char*) {
    known_.push_back(name);
    if (!status_.ok() || !object_.contains(name)) return;
    Read(object_[name], Join(name), field);
  }

  // Reports the first error; unknown keys last, since a typo is then named with all known keys.
  absl::Status Finish() {
    if (!status_.ok()) return status_;
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      std::string message = "unknown key";
      auto nearest = std::min_element(known_.begin(), known_.end(), [&](auto& a, auto& b) {
        return EditDistance(a, key) < EditDistance(b, key);
      });
      if (nearest != known_.end() && EditDistance(*nearest, key) <= 3) {
        message += " (did you mean '" + *nearest + "'?)";
      }
      Fail(Join(key), message);
      break;
    }
    return status_;
  }

 private:
  std::string Join(const std::string& name) const { return path_.empty() ? name : path_ + "." + name; }

  void Fail(const std::string& where, const std::string& what) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(where + ": " + what);
  }

  void Read(const Json& json, const std::string& where, std::string& field) {
    if (!json.is_string()) return Fail(where, "must be a string");
    field = json.get<std::string>();
  }
  void Read(const Json& json, const std::string& where, bool& field) {
    if (!json.is_boolean()) return Fail(where, "must be true or false");
    field = json.get<bool>();
  }
  void Read(const Json& json, const std::string& where, double& field) {
    if (!json.is_number()) return Fail(where, "must be a number");
    field = json.get<double>();
  }
  template <class T>
    requires std::is_integral_v<T>
  void Read(const Json& json, const std::string& where, T& field) {
    if (!json.is_number_integer()) return Fail(where, "must be a whole number");
    if (json.is_number_unsigned() || json.get<int64_t>() >= 0) {
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<T>::max())) {
        return Fail(where, "is too large");
      }
      field = static_cast<T>(json.get<uint64_t>());
      return;
    }
    const int64_t value = json.get<int64_t>();
    if (std::is_unsigned_v<T>) return Fail(where, "must not be negative");
    if (value < static_cast<int64_t>(std::numeric_limits<T>::min())) return Fail(where, "is too small");
    field = static_cast<T>(value);
  }
  template <class T>
  void Read(const Json& json, const std::string& where, std::optional<T>& field) {
    if (json.is_null()) return field.reset();
    Read(json, where, field.emplace());
  }
  template <class T>
  void Read(const Json& json, const std::string& where, std::vector<T>& field) {
    if (!json.is_array()) return Fail(where, "must be a list");
    field.clear();
    for (size_t i = 0; i < json.size(); ++i) {
      Read(json[i], where + "[" + std::to_string(i) + "]", field.emplace_back());
    }
  }
  void Read(const Json& json, const std::string& where, Json& field) {
    if (!json.is_object()) return Fail(where, "must be a mapping");
    field = json;
  }
  void Read(const Json& json, const std::string& where, std::map<std::string, Json>& field) {
    if (!json.is_object()) return Fail(where, "must be a mapping");
    field = json.get<std::map<std::string, Json>>();
  }
  template <class S>
    requires std::is_class_v<S>
  void Read(const Json& json, const std::string& where, std::map<std::string, S>& field) {
    if (!json.is_object()) return Fail(where, "must be a mapping");
    field.clear();
    for (const auto& [key, value] : json.items()) Read(value, where + "." + key, field[key]);
  }
  template <class S>
    requires std::is_class_v<S>
  void Read(const Json& json, const std::string& where, S& field) {
    if (json.is_null()) return;  // "trainer:" with nothing under it
    Reader nested(json, where);
    if (nested.status_.ok()) Visit(nested, field);
    if (absl::Status status = nested.Finish(); !status.ok() && status_.ok()) status_ = status;
  }

  const Json& object_;
  std::string path_;
  std::vector<std::string> known_;
  absl::Status status_;
};

// ---------------------------------------------------------------- struct → JSON

class Writer {
 public:
  template <class T>
  void operator()(const char* name, T& field, const char*) {
    out[name] = ToValue(field);
  }
  Json out = Json::object();

 private:
  template <class T>
  static Json ToValue(T& field) {
    if constexpr (std::is_constructible_v<Json, T>) {
      return Json(field);
    } else {
      Writer nested;
      Visit(nested, field);
      return nested.out;
    }
  }
  template <class T>
  static Json ToValue(std::optional<T>& field) {
    return field ? Json(*field) : Json(nullptr);
  }
  template <class S>
    requires(!std::is_constructible_v<Json, S>)
  static Json ToValue(std::map<std::string, S>& field) {
    Json out = Json::object();
    for (auto& [key, value] : field) out[key] = ToValue(value);
    return out;
  }
  template <class S>
    requires(!std::is_constructible_v<Json, S>)
  static Json ToValue(std::vector<S>& field) {
    Json out = Json::array();
    for (S& value : field) out.push_back(ToValue(value));
    return out;
  }
};

// ---------------------------------------------------------------- reference page

class MarkdownWriter {
 public:
  explicit MarkdownWriter(std::string path) : path_(std::move(path)) {}

  template <class T>
  void operator()(const char* name, T& field, const char* help) {
    const std::string where = path_.empty() ? name : path_ + "." + name;
    if constexpr (std::is_same_v<T, std::map<std::string, VerifierSection>>) {
      VerifierSection section;
      Nest(where + ".<name>", section);
    } else if constexpr (std::is_same_v<T, std::map<std::string, ScheduleSection>>) {
      ScheduleSection section;
      Nest(where + ".<field>", section);
    } else if constexpr (std::is_same_v<T, std::map<std::string, BandSection>>) {
      BandSection section;
      Nest(where + ".<number>", section);
    } else if constexpr (std::is_same_v<T, std::vector<StageSection>>) {
      StageSection section;
      Nest(where + "[]", section);
    } else if constexpr (requires { Visit(*this, field); }) {
      Nest(where, field);
    } else {
      Writer writer;
      writer("x", field, "");
      rows += "| `" + where + "` | `" + writer.out["x"].dump() + "` | " + help + " |\n";
    }
  }
  std::string rows, sections;

 private:
  template <class S>
  void Nest(const std::string& where, S& section) {
    MarkdownWriter nested(where);
    Visit(nested, section);
    if (!nested.rows.empty()) {
      sections += "\n## " + where + "\n\n| Key | Default | Meaning |\n|---|---|---|\n" + nested.rows;
    }
    sections += nested.sections;
  }
  std::string path_;
};

// ---------------------------------------------------------------- overrides

absl::Status ApplyOverride(const std::string& text, Json& root) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError("override '" + text + "': expected a.b=value");
  }
  ASSIGN_OR_RETURN(Json value, YamlToJson(text.substr(equals + 1)));
  if (equals + 1 == text.size()) value = "";  // `data.eval=` clears a string
  Json* node = &root;
  const std::string path = text.substr(0, equals);
  for (size_t begin = 0;;) {
    const size_t dot = path.find('.', begin);
    if (node->is_null()) *node = Json::object();
    if (!node->is_object()) return absl::InvalidArgumentError(path + ": not a mapping");
    node = &(*node)[path.substr(begin, dot - begin)];
    if (dot == std::string::npos) break;
    begin = dot + 1;
  }
  *node = std::move(value);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunConfig> ConfigFromJson(const Json& json) {
  RunConfig config;
  Reader reader(json, "");
  Visit(reader, config);
  RETURN_IF_ERROR(reader.Finish());
  if (config.verifiers.empty()) config.verifiers["math"].builtin = "math";
  RETURN_IF_ERROR(Validate(config));
  return config;
}

std::optional<ThinkingParams> ThinkingOf(const RolloutSection& rollout) {
  if (rollout.thinking.empty()) return std::nullopt;
  return ThinkingFromJson(rollout.thinking).value();
}

absl::StatusOr<AlgorithmConfig> AlgorithmFromJson(const Json& json) {
  AlgorithmConfig config;
  Reader reader(json, "algorithm");
  Visit(reader, config);
  RETURN_IF_ERROR(reader.Finish());
  return config;
}

absl::StatusOr<GeneratorSection> ParseGenerator(const std::vector<std::string>& settings,
                                                GeneratorSection base) {
  Json root = {{"generator", Json::object()}};
  for (const std::string& text : settings) {
    if (!text.starts_with("generator."))
      return absl::InvalidArgumentError("takes generator.NAME=VALUE, got " + text);
    RETURN_IF_ERROR(ApplyOverride(text, root));
  }
  Reader reader(root["generator"], "generator");
  Visit(reader, base);
  RETURN_IF_ERROR(reader.Finish());
  RETURN_IF_ERROR(ValidateGenerator(base));
  return base;
}

absl::StatusOr<RunConfig> ParseConfig(const std::string& yaml_text, const std::string& source_name,
                                      const std::vector<std::string>& overrides) {
  auto parsed = YamlToJson(yaml_text);
  if (!parsed.ok()) return Annotate(parsed.status(), source_name);
  Json root = *std::move(parsed);
  if (root.is_null()) root = Json::object();
  for (const std::string& text : overrides) RETURN_IF_ERROR(ApplyOverride(text, root));
  auto laid = LayOverPreset(std::move(root));
  if (!laid.ok()) return Annotate(laid.status(), source_name);
  auto config = ConfigFromJson(*laid);
  if (!config.ok()) return Annotate(config.status(), source_name);
  return config;
}

absl::StatusOr<RunConfig> LoadConfig(const std::string& path, const std::vector<std::string>& overrides) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, size_t{16} << 20));
  return ParseConfig(text, path, overrides);
}

Json ToJson(const RunConfig& config) {
  RunConfig copy = config;  // Visit takes its struct by mutable reference, for the Reader's sake
  Writer writer;
  Visit(writer, copy);
  return writer.out;
}

std::string ConfigReferenceMarkdown() {
  RunConfig defaults;
  MarkdownWriter writer("");
  Visit(writer, defaults);
  return "# Configuration\n\nOne YAML file, plus `a.b=c` overrides on the command line. Unknown keys are errors.\n"
         "`preset` names a published recipe; a value counts in the order default, preset, file, override.\n"
         "This page is made by `tramontane config-reference`.\n\n"
         "| Key | Default | Meaning |\n|---|---|---|\n" + writer.rows + writer.sections;
}

absl::StatusOr<std::string> FindVerifier(const std::map<std::string, VerifierSection>& verifiers,
                                         const std::string& named) {
  if (verifiers.contains(named)) return named;
  const size_t at = named.rfind('@');
  const auto entry = verifiers.find(named.substr(0, at));
  if (at == std::string::npos || entry == verifiers.end()) {
    return absl::NotFoundError("verifier '" + named + "' is not in `verifiers`");
  }
  const std::string version = named.substr(at + 1);
  if (entry->second.version == version) return entry->first;
  const auto shadow = verifiers.find(entry->second.shadow);
  if (shadow != verifiers.end() && shadow->second.version == version) return shadow->first;
  return absl::NotFoundError("verifier '" + named + "': verifiers." + entry->first + ".version is '" +
                             entry->second.version + "'");
}

}  // namespace tramontane
