// What the loop's threads share besides the book and the evaluation: the way to end the run, the
// state of Redis, and the events. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/rollout.h"

namespace tramontane {

// The first failure ends the run; later ones are only logged.
class Failure {
 public:
  void Set(const absl::Status& status);
  absl::Status Get() const;
  bool failed() const { return failed_; }

 private:
  std::atomic<bool> failed_ = false;
  mutable std::mutex mutex_;
  absl::Status status_;
};

// Since when Redis has not answered, over all threads.
class RedisHealth {
 public:
  explicit RedisHealth(Counter unavailable_seconds) : unavailable_seconds_(unavailable_seconds) {}
  void Down(const absl::Status& why);  // a call failed; logs it, and again every two seconds
  void Up();    // a call succeeded; logs how long it was away
  double SecondsDown() const;        // 0 while it answers
  // Counts the times it came back; whoever sees it grow looks whether anything was lost.
  int64_t recoveries() const { return recoveries_; }

 private:
  mutable std::mutex mutex_;
  bool down_ = false;
  std::chrono::steady_clock::time_point since_, last_log_;
  std::atomic<int64_t> recoveries_ = 0;
  Counter unavailable_seconds_;
};

inline absl::Status StatusOf(const absl::Status& status) { return status; }
template <class T>
absl::Status StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// Calls until Redis answers or `stopping` says so, with growing pauses. Only Unavailable and
// ResourceExhausted (Redis full) are waited out; everything else is the answer. Every call of the
// queue may be repeated (queue/work_queue.h).
template <class Call>
std::invoke_result_t<Call> Patiently(RedisHealth& health, const std::function<bool()>& stopping, Call&& call) {
  std::chrono::milliseconds pause(20);
  while (true) {
    auto result = call();
    const absl::Status status = StatusOf(result);
    if (!absl::IsUnavailable(status) && !absl::IsResourceExhausted(status)) {
      health.Up();
      return result;
    }
    health.Down(status);
    // Slept in short pieces, so that a stop is not kept waiting.
    for (auto slept = std::chrono::milliseconds(0); slept < pause; slept += std::chrono::milliseconds(20)) {
      if (stopping()) return absl::CancelledError("stopping");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    pause = std::min(pause * 2, std::chrono::milliseconds(1000));
  }
}

// One JSON object an event, one at a time.
class Events {
 public:
  // Empty: JSON lines on standard output.
  explicit Events(std::function<void(const Json&)> sink);
  void Emit(const Json& event);

 private:
  std::mutex mutex_;
  const std::function<void(const Json&)> sink_;
};

}  // namespace tramontane
