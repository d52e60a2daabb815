// Typed reading of a row's params. Keys that no rule knows are left alone: datasets bring their
// own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

// Absent keys and null give the fallback; a wrong type is InvalidArgument and names params.<key>.
absl::StatusOr<std::string> TextParam(const Json& params, const std::string& key,
                                      const std::string& fallback);
absl::StatusOr<bool> FlagParam(const Json& params, const std::string& key, bool fallback);
absl::StatusOr<double> NumberParam(const Json& params, const std::string& key, double fallback);
absl::StatusOr<std::vector<std::string>> TextsParam(const Json& params, const std::string& key);

// One of `allowed`, the first of which is the fallback.
absl::StatusOr<std::string> ChoiceParam(const Json& params, const std::string& key,
                                        const std::vector<std::string>& allowed);

// JSON Schema of what the functions above read. Other keys are allowed.
Json ParamsSchema(Json properties);
Json OneOfSchema(const std::vector<std::string>& allowed);  // the first is the default
Json NumberSchema(double low, double high, double fallback);
Json FlagSchema();   // false by default
Json TextsSchema();  // a list of texts

}  // namespace tramontane
