// What a process waits for, and since when: the answer to "who waits on whom". Any thread.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "common/clock.h"

namespace tramontane {

class WaitClock {
 public:
  // Repeating a state changes nothing: the wait goes on counting from its begin.
  void Set(const std::string& what, bool waiting) {
    std::lock_guard lock(mutex_);
    if (!waiting) {
      since_.erase(what);
    } else {
      since_.try_emplace(what, std::chrono::steady_clock::now());
    }
  }

  std::map<std::string, double> Seconds() const {
    std::lock_guard lock(mutex_);
    std::map<std::string, double> seconds;
    for (const auto& [what, since] : since_) seconds[what] = SecondsSince(since);
    return seconds;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::chrono::steady_clock::time_point> since_;  // guarded by mutex_
};

}  // namespace tramontane
