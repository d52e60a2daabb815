#include "services/generator/episode.h"

#include <utility>

namespace tramontane {

void EpisodeResponse::AddTurn(Rollout turn, const std::string& whole_text) {
  const int32_t before = size();
  if (!turn.spans.empty()) Stamp(turn.spans.front().version, std::exchange(unstamped_, 0));
  for (const VersionSpan& span : turn.spans) Stamp(span.version, span.count);
  rollout_.tokens.insert(rollout_.tokens.end(), turn.tokens.begin(), turn.tokens.end());
  rollout_.logprobs.insert(rollout_.logprobs.end(), turn.logprobs.begin(), turn.logprobs.end());
  for (TokenSpan span : turn.injected) {
    span.begin += before;
    rollout_.injected.push_back(span);
  }
  rollout_.usage.thinking += turn.usage.thinking;
  rollout_.usage.answer += turn.usage.answer;
  rollout_.usage.injected += turn.usage.injected;
  rollout_.generate_seconds += turn.generate_seconds;
  // A turn's routes are those of all tokens before its last one, earlier turns included.
  if (turn.routes.size() > rollout_.routes.size()) {
    rollout_.routes.insert(rollout_.routes.end(),
                           turn.routes.begin() + static_cast<int64_t>(rollout_.routes.size()),
                           turn.routes.end());
    routed_ = rollout_.tokens.size();
  }
  text_before_turn_ = rollout_.text + turn.text;
  rollout_.text += whole_text;
  ++turns_;
}

void EpisodeResponse::AddObservation(const std::vector<int32_t>& tokens, const std::string& text) {
  const auto count = static_cast<int32_t>(tokens.size());
  if (count == 0) return;
  rollout_.injected.push_back({size(), count});
  if (rollout_.spans.empty()) {
    unstamped_ += count;
  } else {
    Stamp(rollout_.spans.back().version, count);
  }
  rollout_.tokens.insert(rollout_.tokens.end(), tokens.begin(), tokens.end());
  rollout_.logprobs.resize(rollout_.tokens.size(), 0);
  rollout_.usage.injected += count;
  rollout_.text += text;
  text_before_turn_ = rollout_.text;
}

void EpisodeResponse::Stamp(int64_t version, int32_t count) {
  if (count == 0) return;
  std::vector<VersionSpan>& spans = rollout_.spans;
  if (spans.empty() || spans.back().version != version) spans.push_back({version, 0});
  spans.back().count += count;
}

Rollout EpisodeResponse::Finish(FinishReason reason, size_t prompt_tokens) {
  Rollout whole;
  if (unstamped_ == 0) {
    if (!rollout_.routes.empty()) {  // nothing was computed behind a last observation
      const size_t route_bytes = rollout_.routes.size() / (prompt_tokens + routed_ - 1);
      rollout_.routes.resize((prompt_tokens + rollout_.tokens.size() - 1) * route_bytes, kNoRoute);
    }
    whole = std::move(rollout_);
    whole.text = std::move(text_before_turn_);
  }
  whole.finish_reason = reason;
  return whole;
}

}  // namespace tramontane
