// What is wrong with a sample, told from its tokens and their log-probabilities alone. Pure.
#pragma once

#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

// Holds a rare token that was also unlikely (filter.gibberish_*): text of no language (CWM, arXiv
// 2510.02387). An injected token has log-probability 0, so it never is.
bool IsGibberish(const Rollout& rollout, const FilterConfig& filter);

// Has filter.repetition_window sampled tokens in a row that were all but certain: the policy goes
// round in circles (prime-rl's filter).
bool GoesRound(const Rollout& rollout, const FilterConfig& filter);

}  // namespace tramontane
