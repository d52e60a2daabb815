// One episode's response while it grows: turns that were sampled, observations that were put in.
// A plain value; no thread of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/rollout.h"

namespace tramontane {

class EpisodeResponse {
 public:
  // A turn as the engine finished it; `whole_text` is that of its tokens, the end token included.
  void AddTurn(Rollout turn, const std::string& whole_text);
  // Tokens that nobody sampled. Before the first turn they belong to the version that samples then.
  void AddObservation(const std::vector<int32_t>& tokens, const std::string& text);

  const std::vector<int32_t>& tokens() const { return rollout_.tokens; }
  int32_t turns() const { return turns_; }
  int32_t size() const { return static_cast<int32_t>(rollout_.tokens.size()); }

  // The whole response to a prompt of so many tokens. One that never had a turn is empty: nobody
  // sampled it. Where turns have routes it has them: of each token those that the first turn behind
  // it was computed with, which its own turn was sampled by.
  Rollout Finish(FinishReason reason, size_t prompt_tokens);

 private:
  void Stamp(int64_t version, int32_t count);

  Rollout rollout_;
  std::string text_before_turn_;  // `text` without what the last turn's end token says
  int32_t unstamped_ = 0;         // observed before any version sampled
  size_t routed_ = 0;             // response tokens that routes were noted for, or none need be
  int32_t turns_ = 0;
};

}  // namespace tramontane
