#include "services/verifier/circuit_breaker.h"

#include <algorithm>

namespace tramontane {

void CircuitBreaker::OnProbe(bool answered, int64_t now_ms) {
  if (state_ != State::kProbing) return;
  if (!answered) {
    next_probe_ms_ = now_ms + pause_ms_;
    pause_ms_ = std::min(2 * pause_ms_, options_.max_pause_ms);
    return;
  }
  state_ = State::kTrial;
  trial_out_ = false;
  ++era_;
}

int64_t CircuitBreaker::OnSent() {
  if (state_ == State::kTrial) trial_out_ = true;
  return era_;
}

void CircuitBreaker::OnSuccess(int64_t ticket) {
  if (ticket != era_) return;
  failures_ = 0;
  pause_ms_ = options_.first_pause_ms;
  if (state_ == State::kTrial) {
    state_ = State::kClosed;
    ++era_;
  }
}

void CircuitBreaker::OnAbandoned(int64_t ticket) {
  if (ticket == era_) trial_out_ = false;
}

void CircuitBreaker::OnFailure(int64_t ticket, bool unreachable, int64_t now_ms) {
  if (ticket != era_ || state_ == State::kProbing) return;
  ++failures_;
  if (unreachable || state_ == State::kTrial || failures_ >= options_.failures_to_open) Open(now_ms);
}

void CircuitBreaker::Open(int64_t now_ms) {
  state_ = State::kProbing;
  next_probe_ms_ = now_ms + pause_ms_;
  pause_ms_ = std::min(2 * pause_ms_, options_.max_pause_ms);
  ++era_;
  ++times_opened_;
}

}  // namespace tramontane
