// Where a step's wall time goes: StepReport::seconds and phase_seconds. One thread.
#pragma once

#include <chrono>
#include <string>

#include "common/clock.h"
#include "trainer/learner/learner.h"

namespace tramontane {

class PhaseTimer {
 public:
  explicit PhaseTimer(StepReport& report) : report_(report) {}
  // What was done since the last call (or the start) was `finished`.
  void Next(const std::string& finished) {
    const auto now = std::chrono::steady_clock::now();
    report_.phase_seconds[finished] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  void Finish() { report_.seconds = SecondsSince(start_); }

 private:
  StepReport& report_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = start_;
};

}  // namespace tramontane
