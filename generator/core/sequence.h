// One sample being generated, as the scheduler sees it: tokens, cache progress, block ids.
// A plain value owned by whoever submitted it; while it is scheduled, only the scheduler and the
// engine thread touch it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tramontane {

enum class SequenceState { kIdle, kWaiting, kRunning };

struct Sequence {
  uint64_t id = 0;       // arrival order: smaller is older; unique
  uint64_t request = 0;  // samples of one request have the same prompt and share its blocks
  int32_t prompt_size = 0;
  std::vector<int32_t> tokens;  // prompt, then what has been sampled
  int32_t drafts = 0;           // so many of the last tokens are guesses: within a step alone
  bool scores_prompt =
      false;  // wants logits behind every prompt token: computes all of them itself

  // Kept by the scheduler.
  SequenceState state = SequenceState::kIdle;
  int32_t cached = 0;              // keys and values of tokens[0, cached) are in `blocks`
  std::vector<int32_t> blocks;     // block i holds positions [i·block_tokens, (i+1)·block_tokens)
  std::vector<uint64_t> chain;     // the prefix cache's entries of the first, full blocks
  int32_t found = -1;  // tokens that the prefix cache had when it first ran; -1: it never has
  uint64_t weight_generation = 0;  // of the weights that computed the first keys

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  // Within a step: guesses at the next tokens, computed along with the newest one.
  void AddDrafts(const std::vector<int32_t>& guesses) {
    tokens.insert(tokens.end(), guesses.begin(), guesses.end());
    drafts = static_cast<int32_t>(guesses.size());
  }
  void DropDrafts() {
    tokens.resize(tokens.size() - static_cast<size_t>(drafts));
    drafts = 0;
  }
  // Takes back sampled tokens; what is computed next overwrites their keys. Between two steps.
  void Rewind(int32_t size) {
    tokens.resize(size);
    cached = std::min(cached, size);
  }
};

}  // namespace tramontane
