#include "generator/core/repetition.h"

#include <algorithm>

namespace tramontane {

RepetitionRule::RepetitionRule(int32_t tokens, int32_t times)
    : tokens_(tokens), runs_(static_cast<size_t>(tokens / times), 0) {}

bool RepetitionRule::Push(std::span<const int32_t> sampled) {
  bool repeats = false;
  for (size_t period = 1; period <= std::min(runs_.size(), sampled.size() - 1); ++period) {
    int32_t& run = runs_[period - 1];
    const bool same = sampled.back() == sampled[sampled.size() - 1 - period];
    run = same ? std::min(run + 1, tokens_) : 0;
    repeats = repeats || run + static_cast<int32_t>(period) >= tokens_;
  }
  return repeats;
}

void RepetitionRule::Clear() { std::ranges::fill(runs_, 0); }

}  // namespace tramontane
