#include "common/thinking.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "common/status.h"

namespace tramontane {
namespace {

using Json = nlohmann::json;

absl::Status Bad(const std::string& field, const std::string& why) {
  return absl::InvalidArgumentError("thinking." + field + ": " + why);
}

absl::StatusOr<int32_t> Integer(const std::string& field, const Json& value) {
  if (!value.is_number_integer() || value < INT32_MIN || value > INT32_MAX)
    return Bad(field, "must be an integer, got " + value.dump());
  return value.get<int32_t>();
}

absl::Status ReadExhaust(const Json& value, ThinkingParams& thinking) {
  if (value.is_string()) {
    thinking.on_exhaust = value.get<std::string>();
    return absl::OkStatus();
  }
  if (!value.is_object() || value.size() != 1 || !value.contains("text") ||
      !value["text"].is_string())
    return Bad("on_exhaust", "must be a name or {\"text\": …}, got " + value.dump());
  thinking.on_exhaust = "custom";
  thinking.exhaust_text = value["text"].get<std::string>();
  return absl::OkStatus();
}

absl::Status ReadField(const std::string& key, const Json& value, ThinkingParams& thinking) {
  if (key == "on_exhaust") return ReadExhaust(value, thinking);
  for (const auto& [name, field] :
       {std::pair<const char*, std::string*>{"effort", &thinking.effort},
        {"tag", &thinking.tag},
        {"mode", &thinking.mode},
        {"extension_text", &thinking.extension_text},
        {"guidance_draw", &thinking.guidance_draw}}) {
    if (key != name) continue;
    if (!value.is_string()) return Bad(key, "must be a text, got " + value.dump());
    *field = value.get<std::string>();
    return absl::OkStatus();
  }
  for (const auto& [name, field] :
       {std::pair<const char*, std::optional<int32_t>*>{"budget", &thinking.budget},
        {"reserve", &thinking.reserve},
        {"extensions", &thinking.extensions}}) {
    if (key != name) continue;
    ASSIGN_OR_RETURN(*field, Integer(key, value));
    return absl::OkStatus();
  }
  if (key == "guidance") {
    if (!value.is_boolean()) return Bad(key, "must be true or false, got " + value.dump());
    thinking.guidance = value.get<bool>();
    return absl::OkStatus();
  }
  if (key != "min_tokens") return Bad(key, "unknown key");
  ASSIGN_OR_RETURN(thinking.min_tokens, Integer(key, value));
  return absl::OkStatus();
}

template <size_t N>
absl::Status OneOf(const std::string& field, const std::string& value,
                   const std::array<std::string_view, N>& names) {
  std::string list;
  for (std::string_view name : names) {
    if (value == name) return absl::OkStatus();
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  return Bad(field, "\"" + value + "\" is none of " + list);
}

}  // namespace

absl::StatusOr<ThinkingParams> ThinkingFromJson(const Json& json) {
  if (!json.is_object())
    return absl::InvalidArgumentError("thinking: must be an object or null, got " + json.dump());
  ThinkingParams thinking;
  for (const auto& [key, value] : json.items()) {
    if (value.is_null()) continue;
    RETURN_IF_ERROR(ReadField(key, value, thinking));
  }
  RETURN_IF_ERROR(CheckThinking(thinking));
  return thinking;
}

Json ToJson(const ThinkingParams& t) {
  const auto optional = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
  const auto text = [](const std::string& value) {
    return value.empty() ? Json(nullptr) : Json(value);
  };
  Json json = {{"budget", optional(t.budget)},
               {"effort", text(t.effort)},
               {"tag", text(t.tag)},
               {"mode", text(t.mode)},
               {"min_tokens", t.min_tokens},
               {"on_exhaust", t.on_exhaust},
               {"reserve", optional(t.reserve)},
               {"extensions", optional(t.extensions)},
               {"extension_text", t.extension_text},
               {"guidance", t.guidance},
               {"guidance_draw", t.guidance_draw}};
  if (t.on_exhaust == "custom") json["on_exhaust"] = {{"text", t.exhaust_text}};
  return json;
}

absl::Status CheckThinking(const ThinkingParams& t) {
  if (t.budget && *t.budget < -1)
    return Bad("budget",
               "must be -1 (dynamic), 0 (off) or positive, got " + std::to_string(*t.budget));
  if (!t.effort.empty()) RETURN_IF_ERROR(OneOf<3>("effort", t.effort, {"low", "medium", "high"}));
  if (!t.mode.empty()) RETURN_IF_ERROR(OneOf<2>("mode", t.mode, {"on", "off"}));
  RETURN_IF_ERROR(OneOf<4>("on_exhaust", t.on_exhaust, {"qwen3", "s1", "cwm", "custom"}));
  if (t.min_tokens < 0)
    return Bad("min_tokens", "must not be negative, got " + std::to_string(t.min_tokens));
  if (t.extensions && *t.extensions < 0)
    return Bad("extensions", "must not be negative, got " + std::to_string(*t.extensions));
  if (t.extension_text.empty()) return Bad("extension_text", "must not be empty");
  if (t.guidance && t.budget && *t.budget <= 0)
    return Bad("guidance", "needs a budget above 0, got " + std::to_string(*t.budget));
  RETURN_IF_ERROR(OneOf<2>("guidance_draw", t.guidance_draw, {"request", "plain"}));
  return absl::OkStatus();
}

}  // namespace tramontane
