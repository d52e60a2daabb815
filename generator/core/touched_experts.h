// How many experts a batch goes through: what a step reads of a mixture's weights.
#pragma once

#include <cstdint>
#include <span>

namespace tramontane {

// Different experts in each layer, summed over the layers, of the tokens whose `routes` these are:
// [tokens, layers, experts per token]. kNoRoute is no expert.
int64_t TouchedExperts(std::span<const uint8_t> routes, int64_t layers, int64_t experts_per_token);

}  // namespace tramontane
