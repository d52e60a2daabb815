// Guesses how a sequence goes on from what it holds already ("prompt lookup"): where its last few
// tokens stood before, what followed them there. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tramontane {

// Appends at most `most` tokens to `draft`: those behind the latest of the longest earlier matches
// of the end of `tokens`, where at least two tokens match. None is a common answer.
void DraftByNgram(std::span<const int32_t> tokens, int32_t most, std::vector<int32_t>& draft);

}  // namespace tramontane
