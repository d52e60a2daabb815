// Log-probabilities of given tokens under a model: the probe of weight versions, and the `score` tool.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/transformer.h"

namespace tramontane {

// log p(tokens[t + 1] | tokens[..t]) at temperature 1, float32; empty for fewer than two tokens.
// Throws what tensor code throws (a token outside the vocabulary).
std::vector<float> ScoreTokens(Transformer& model, const std::vector<int32_t>& tokens);

// `in`: {"tokens": [[int, …], …]}. Returns {"logprobs": [[float, …], …]}, entry t of a row as above;
// with top_k > 0 also {"top": [[[[token, logprob], …], …], …]}: at each position t of a row (the last
// included) the top_k most likely next tokens, best first. dtype: float32 | float64 | bfloat16.
// InvalidArgument names the field.
absl::StatusOr<nlohmann::json> ScoreTool(const std::string& model_dir, const nlohmann::json& in, int top_k,
                                         const std::string& dtype);

}  // namespace tramontane
