#include <nlohmann/json.hpp>

#include "common/files.h"
#include "common/status.h"
#include "generator/core/thinking_plan.h"

namespace tramontane {
namespace {

using Json = nlohmann::json;

absl::Status ReadKey(const std::string& key, const Json& value, ThinkingProfile& profile) {
  if (key == "min") {
    profile.min = value.get<int32_t>();
  } else if (key == "max") {
    profile.max = value.get<int32_t>();
  } else if (key == "can_disable") {
    profile.can_disable = value.get<bool>();
  } else if (key == "default") {
    profile.default_budget = value.get<int32_t>();
  } else if (key == "open") {
    profile.open = value.get<std::string>();
  } else if (key == "close") {
    profile.close = value.get<std::string>();
  } else if (key == "tags") {
    profile.tags = value.get<std::map<std::string, int32_t>>();
  } else {
    return absl::InvalidArgumentError(key + ": unknown key");
  }
  return absl::OkStatus();
}

absl::Status CheckProfile(const ThinkingProfile& profile) {
  if (profile.min < 1 || profile.max < profile.min)
    return absl::InvalidArgumentError("min and max: need 1 ≤ min ≤ max");
  if (profile.open.empty() || profile.close.empty())
    return absl::InvalidArgumentError("open and close must not be empty");
  if (profile.default_budget && *profile.default_budget < -1)
    return absl::InvalidArgumentError("default: must be -1, 0 or positive");
  for (const auto& [tag, tokens] : profile.tags) {
    if (tag.empty() || tokens < 1)
      return absl::InvalidArgumentError("tags: each needs a name and a positive budget");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ThinkingProfile> LoadThinkingProfile(const std::string& model_dir) {
  ThinkingProfile profile;
  const std::string path = model_dir + "/generation_config.json";
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return profile;
  RETURN_IF_ERROR(text.status());
  const std::string where = path + ": thinking";
  try {
    const Json json = Json::parse(*text);
    if (!json.contains("thinking")) return profile;
    for (const auto& [key, value] : json["thinking"].items())
      RETURN_IF_ERROR(Annotate(ReadKey(key, value, profile), where));
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(where + ": " + error.what());
  }
  RETURN_IF_ERROR(Annotate(CheckProfile(profile), where));
  return profile;
}

}  // namespace tramontane
