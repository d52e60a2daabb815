#include "trainer/loop/loop_shared.h"

#include <cstdio>

namespace tramontane {

void Failure::Set(const absl::Status& status) {
  LogError("loop_failed", {{"status", status}});
  std::lock_guard lock(mutex_);
  if (status_.ok()) status_ = status;
  failed_ = true;
}

absl::Status Failure::Get() const {
  std::lock_guard lock(mutex_);
  return status_;
}

void RedisHealth::Down(const absl::Status& why) {
  const auto now = std::chrono::steady_clock::now();
  std::lock_guard lock(mutex_);
  if (!down_) {
    down_ = true;
    since_ = last_log_ = now;
    LogWarn("redis_unavailable", {{"seconds", 0}, {"status", why}});
  } else if (now - last_log_ >= std::chrono::seconds(2)) {
    last_log_ = now;
    LogWarn("redis_unavailable", {{"seconds", SecondsSince(since_)}, {"status", why}});
  }
}

void RedisHealth::Up() {
  std::lock_guard lock(mutex_);
  if (!down_) return;
  down_ = false;
  ++recoveries_;
  unavailable_seconds_.Add(SecondsSince(since_));
  LogInfo("redis_available_again", {{"seconds", SecondsSince(since_)}});
}

double RedisHealth::SecondsDown() const {
  std::lock_guard lock(mutex_);
  return down_ ? SecondsSince(since_) : 0;
}

Events::Events(std::function<void(const Json&)> sink) : sink_(std::move(sink)) {}

void Events::Emit(const Json& event) {
  std::lock_guard lock(mutex_);
  if (sink_) {
    sink_(event);
    return;
  }
  const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

}  // namespace tramontane
