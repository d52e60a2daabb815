// Notices when a sample goes round in circles: its last tokens are one and the same piece, again
// and again. Exact, by token ids; what a sampler is sure of is common/sample_faults.h's. One
// thread, one per sample.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tramontane {

class RepetitionRule {
 public:
  // Looks at the last `tokens` tokens for a piece that fills them at least `times` over, so of at
  // most tokens / times. 0 < times ≤ tokens.
  RepetitionRule(int32_t tokens, int32_t times);

  // `sampled` has got one more token since the last call, or since Clear(), when it was empty.
  // Whether its end is such a repetition. O(tokens / times).
  bool Push(std::span<const int32_t> sampled);
  void Clear();

 private:
  const int32_t tokens_;
  // runs_[p - 1]: so many of the last tokens are what stood p tokens before them.
  std::vector<int32_t> runs_;
};

}  // namespace tramontane
