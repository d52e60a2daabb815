#include "common/sample_faults.h"

#include <algorithm>
#include <cmath>

namespace tramontane {

bool IsGibberish(const Rollout& rollout, const FilterConfig& filter) {
  if (!filter.gibberish_token_min) return false;
  for (size_t t = 0; t < std::min(rollout.tokens.size(), rollout.logprobs.size()); ++t) {
    if (rollout.tokens[t] >= *filter.gibberish_token_min &&
        rollout.logprobs[t] < filter.gibberish_logprob)
      return true;
  }
  return false;
}

bool GoesRound(const Rollout& rollout, const FilterConfig& filter) {
  if (filter.repetition_window <= 0) return false;
  const double certain = std::log(filter.repetition_probability);
  auto injected = rollout.injected.begin();
  int64_t run = 0;
  for (size_t t = 0; t < rollout.logprobs.size(); ++t) {
    const auto position = static_cast<int32_t>(t);
    while (injected != rollout.injected.end() && position >= injected->begin + injected->count)
      ++injected;
    const bool sampled = injected == rollout.injected.end() || position < injected->begin;
    run = sampled && rollout.logprobs[t] > certain ? run + 1 : 0;
    if (run >= filter.repetition_window) return true;
  }
  return false;
}

}  // namespace tramontane
