// A WorkQueue that waits while Redis is away. One thread, like the queue itself.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/config.h"
#include "queue/work_queue.h"
#include "services/wait_clock.h"

namespace tramontane {

class PatientQueue {
 public:
  // `give_up` and `waits` outlive it. An outage is shown in `waits` as "redis" and logged.
  PatientQueue(const RedisSection& redis, const std::string& run_id,
               const std::atomic<bool>& give_up, WaitClock& waits);

  // Connects if need be and calls; repeats both until Redis answers or `give_up` is set. Returns
  // the call's status; Unavailable only after giving up.
  absl::Status Call(const std::function<absl::Status(WorkQueue&)>& call);

 private:
  absl::Status Try(const std::function<absl::Status(WorkQueue&)>& call);
  void NoteOutage(const absl::Status& status);
  void NoteRecovery();

  const RedisSection redis_;
  const std::string run_id_;
  const std::atomic<bool>& give_up_;
  WaitClock& waits_;
  std::unique_ptr<WorkQueue> queue_;
  std::optional<std::chrono::steady_clock::time_point> away_since_, logged_at_;
};

}  // namespace tramontane
