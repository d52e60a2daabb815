// Decides when a verifier may be asked. A service that is down or answers nonsense is left alone
// and probed, so that an outage costs time and not groups.
//
//   kProbing  nothing is sent; the service is probed after a pause that doubles up to max_pause_ms
//   kTrial    the probe was answered: one request is let through
//   kClosed   all is well
//
// Starts in kProbing with a probe due at once. Plain object for one thread; time is passed in.
#pragma once

#include <cstdint>

namespace tramontane {

struct CircuitOptions {
  int32_t failures_to_open = 8;  // in a row
  int64_t first_pause_ms = 100;
  int64_t max_pause_ms = 5000;
};

class CircuitBreaker {
 public:
  enum class State { kProbing, kTrial, kClosed };

  explicit CircuitBreaker(CircuitOptions options) : options_(options), pause_ms_(options.first_pause_ms) {}

  State state() const { return state_; }
  int64_t next_probe_ms() const { return next_probe_ms_; }  // meaningful in kProbing
  int32_t failures_in_a_row() const { return failures_; }
  int64_t times_opened() const { return times_opened_; }

  bool ProbeDue(int64_t now_ms) const { return state_ == State::kProbing && now_ms >= next_probe_ms_; }
  void OnProbe(bool answered, int64_t now_ms);

  // Whether a request may be sent now.
  bool Admits() const { return state_ == State::kClosed || (state_ == State::kTrial && !trial_out_); }
  // Returns a ticket to hand in with the outcome: outcomes from before the last change of state
  // say nothing about the service as it is now.
  int64_t OnSent();
  void OnSuccess(int64_t ticket);
  void OnAbandoned(int64_t ticket);  // nobody waits for the outcome any more
  // `unreachable`: nobody is there, so one failure is enough.
  void OnFailure(int64_t ticket, bool unreachable, int64_t now_ms);

 private:
  void Open(int64_t now_ms);

  const CircuitOptions options_;
  State state_ = State::kProbing;
  int64_t pause_ms_;
  int64_t next_probe_ms_ = 0;
  int64_t era_ = 0;  // raised with every change of state
  int32_t failures_ = 0;
  int64_t times_opened_ = 0;
  bool trial_out_ = false;
};

}  // namespace tramontane
