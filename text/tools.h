// `tramontane tokenize` and `tramontane template` as functions from JSON to JSON (docs/cli).
// Pass ordered_json where key order matters to a template; plain json converts by itself.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

// {"texts": […], "add_special_tokens": false} → {"ids": [[…]]}, or
// {"ids": [[…]], "skip_special_tokens": false} → {"texts": […]}.
absl::StatusOr<nlohmann::json> TokenizeTool(const std::string& model_dir,
                                            const nlohmann::ordered_json& in);

// {"messages": […], "tools": […], "add_generation_prompt": true, …} → {"text": "…"}; every key that
// ChatTemplate::Render knows.
// A bare model without a template is NotFound.
absl::StatusOr<nlohmann::json> TemplateTool(const std::string& model_dir,
                                            const nlohmann::ordered_json& in);

}  // namespace tramontane
