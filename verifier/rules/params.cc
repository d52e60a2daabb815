#include "verifier/rules/params.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/status.h"

namespace tramontane {
namespace {

const Json* Find(const Json& params, const std::string& key) {
  if (!params.is_object()) return nullptr;
  const auto it = params.find(key);
  return it == params.end() || it->is_null() ? nullptr : &*it;
}

absl::Status WrongParam(const std::string& key, const std::string& expected) {
  return absl::InvalidArgumentError("params." + key + ": must be " + expected);
}

}  // namespace

absl::StatusOr<std::string> TextParam(const Json& params, const std::string& key,
                                      const std::string& fallback) {
  const Json* value = Find(params, key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) return WrongParam(key, "a string");
  return value->get<std::string>();
}

absl::StatusOr<bool> FlagParam(const Json& params, const std::string& key, bool fallback) {
  const Json* value = Find(params, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return WrongParam(key, "true or false");
  return value->get<bool>();
}

absl::StatusOr<double> NumberParam(const Json& params, const std::string& key, double fallback) {
  const Json* value = Find(params, key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) return WrongParam(key, "a number");
  return value->get<double>();
}

absl::StatusOr<std::vector<std::string>> TextsParam(const Json& params, const std::string& key) {
  const Json* value = Find(params, key);
  if (value == nullptr) return std::vector<std::string>();
  if (!value->is_array()) return WrongParam(key, "a list of strings");
  std::vector<std::string> texts;
  for (const Json& item : *value) {
    if (!item.is_string()) return WrongParam(key, "a list of strings");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

absl::StatusOr<std::string> ChoiceParam(const Json& params, const std::string& key,
                                        const std::vector<std::string>& allowed) {
  ASSIGN_OR_RETURN(const std::string value, TextParam(params, key, allowed[0]));
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return value;
  std::string list;
  for (const std::string& item : allowed) list += (list.empty() ? "" : ", ") + item;
  return WrongParam(key, "one of " + list);
}

Json ParamsSchema(Json properties) {
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

Json OneOfSchema(const std::vector<std::string>& allowed) {
  return {{"type", "string"}, {"enum", allowed}, {"default", allowed.front()}};
}

Json NumberSchema(double low, double high, double fallback) {
  return {{"type", "number"}, {"minimum", low}, {"maximum", high}, {"default", fallback}};
}

Json FlagSchema() { return {{"type", "boolean"}, {"default", false}}; }

Json TextsSchema() { return {{"type", "array"}, {"items", {{"type", "string"}}}}; }

}  // namespace tramontane
