// `tramontane score` as a function; without torch, unlike model/score.h.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

// `in`: {"tokens": [[int, …], …]}. Returns {"logprobs": [[float, …], …]}: entry t of a row is
// log p(tokens[t + 1] | tokens[..t]) at temperature 1. With top_k > 0 also
// {"top": [[[[token, logprob], …], …], …]}: at each position t of a row (the last included) the
// top_k most likely next tokens, best first. dtype: float32 | float64 | bfloat16.
// InvalidArgument names the field.
absl::StatusOr<nlohmann::json> ScoreTool(const std::string& model_dir, const nlohmann::json& in,
                                         int top_k, const std::string& dtype);

}  // namespace tramontane
