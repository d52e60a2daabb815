// Turns the reasons for stopping into one flag: SIGTERM, SIGINT, a request from inside, the death
// of the parent. Then makes sure that the process really ends.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/unique_fd.h"

namespace tramontane {

// Any thread, but the constructor: it masks the two signals for the calling thread and all
// threads started later, and belongs at the top of main.
class StopWatcher {
 public:
  StopWatcher(bool exit_with_parent, double overdue_after_s);
  ~StopWatcher();

  // The first call counts; `reason` is logged. `overdue_after_s` replaces the constructor's.
  void Request(const std::string& reason, std::optional<double> overdue_after_s = std::nullopt);
  const std::atomic<bool>& requested() const { return requested_; }
  void Wait();

 private:
  void Watch();
  void EndIfOverdue();
  void Wake();

  const double default_overdue_s_;
  UniqueFd signals_, wake_;
  std::atomic<bool> requested_ = false, finished_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::chrono::steady_clock::time_point> overdue_at_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tramontane
