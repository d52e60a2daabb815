#include "services/generator/patient_queue.h"

#include <thread>

#include "common/clock.h"
#include "common/log.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kRetryPause{200};
constexpr double kLogEveryS = 5;

}  // namespace

PatientQueue::PatientQueue(const RedisSection& redis, const std::string& run_id,
                           const std::atomic<bool>& give_up, WaitClock& waits)
    : redis_(redis), run_id_(run_id), give_up_(give_up), waits_(waits) {}

absl::Status PatientQueue::Call(const std::function<absl::Status(WorkQueue&)>& call) {
  while (true) {
    const absl::Status status = Try(call);
    if (!absl::IsUnavailable(status)) {
      NoteRecovery();
      return status;
    }
    NoteOutage(status);
    if (give_up_) return status;
    std::this_thread::sleep_for(kRetryPause);
  }
}

absl::Status PatientQueue::Try(const std::function<absl::Status(WorkQueue&)>& call) {
  if (queue_ == nullptr) {
    absl::StatusOr<std::unique_ptr<WorkQueue>> queue = WorkQueue::Connect(redis_, run_id_);
    // A Redis that is still loading its data refuses with an error of its own: wait as well.
    if (!queue.ok()) return absl::UnavailableError(queue.status().ToString());
    queue_ = *std::move(queue);
  }
  return call(*queue_);
}

void PatientQueue::NoteOutage(const absl::Status& status) {
  const auto now = std::chrono::steady_clock::now();
  if (!away_since_.has_value()) away_since_ = now;
  waits_.Set("redis", true);
  if (logged_at_.has_value() && SecondsSince(*logged_at_) < kLogEveryS) return;
  logged_at_ = now;
  LogWarn("redis_unavailable", {{"seconds", SecondsSince(*away_since_)}, {"error", status}});
}

void PatientQueue::NoteRecovery() {
  if (!away_since_.has_value()) return;
  LogInfo("redis_back", {{"seconds", SecondsSince(*away_since_)}});
  away_since_.reset();
  logged_at_.reset();
  waits_.Set("redis", false);
}

}  // namespace tramontane
