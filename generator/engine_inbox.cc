#include "generator/engine_inbox.h"

#include <algorithm>
#include <utility>

namespace tramontane {

absl::Status EngineInbox::Submit(SampleRequest request) {
  {
    std::lock_guard lock(mutex_);
    if (work_.closed) return absl::UnavailableError("the engine is stopping");
    if (!serving_.ok()) return serving_;
    if (arrived_samples_ + waiting_samples_ + request.n > max_waiting_samples_)
      return absl::ResourceExhaustedError(
          "waiting queue full: " + std::to_string(arrived_samples_ + waiting_samples_) + " of " +
          std::to_string(max_waiting_samples_) + " samples wait, " + std::to_string(request.n) +
          " more do not fit");
    if (!ids_.insert(request.id).second)
      return absl::AlreadyExistsError("request " + request.id + " is still running");
    arrived_samples_ += request.n;
    work_.requests.push_back(std::move(request));
  }
  arrived_.notify_one();
  return absl::OkStatus();
}

void EngineInbox::Cancel(const std::string& id) {
  {
    std::lock_guard lock(mutex_);
    if (!ids_.contains(id) || std::ranges::find(work_.cancelled, id) != work_.cancelled.end())
      return;
    work_.cancelled.push_back(id);
  }
  arrived_.notify_one();
}

absl::StatusOr<std::future<absl::StatusOr<CommitResult>>> EngineInbox::Commit(
    StagedWeights weights) {
  std::future<absl::StatusOr<CommitResult>> reply;
  {
    std::lock_guard lock(mutex_);
    if (work_.closed) return absl::UnavailableError("the engine is stopping");
    if (work_.commit) return absl::UnavailableError("another commit is under way");
    work_.commit.emplace(CommitCommand{std::move(weights), {}});
    reply = work_.commit->reply.get_future();
  }
  arrived_.notify_one();
  return reply;
}

void EngineInbox::Close() {
  {
    std::lock_guard lock(mutex_);
    work_.closed = true;
  }
  arrived_.notify_one();
}

EngineWork EngineInbox::Take(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  const auto anything = [this] {
    return work_.closed || work_.commit || !work_.requests.empty() || !work_.cancelled.empty();
  };
  if (patience.count() > 0) arrived_.wait_for(lock, patience, anything);
  if (!anything()) return {};
  EngineWork taken = std::exchange(work_, {});
  work_.closed = taken.closed;
  waiting_samples_ += std::exchange(arrived_samples_, 0);
  return taken;
}

void EngineInbox::SetWaiting(int32_t samples) {
  std::lock_guard lock(mutex_);
  waiting_samples_ = samples;
}

void EngineInbox::Forget(const std::string& id) {
  std::lock_guard lock(mutex_);
  ids_.erase(id);
}

void EngineInbox::SetServing(const absl::Status& status) {
  std::lock_guard lock(mutex_);
  serving_ = status;
}

int32_t EngineInbox::arrived_samples() const {
  std::lock_guard lock(mutex_);
  return arrived_samples_;
}

}  // namespace tramontane
