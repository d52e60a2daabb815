// Log-probabilities of given tokens under a model: the probe of weight versions. The `score` tool
// is in model/score_tool.h.
#pragma once

#include <cstdint>
#include <vector>

#include "model/transformer.h"

namespace tramontane {

// log p(tokens[t + 1] | tokens[..t]) at temperature 1, float32; empty for fewer than two tokens.
// Throws what tensor code throws (a token outside the vocabulary).
std::vector<float> ScoreTokens(Transformer& model, const std::vector<int32_t>& tokens);

}  // namespace tramontane
