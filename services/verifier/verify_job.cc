#include "services/verifier/verify_job.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "services/verifier/verify_request.h"

namespace tramontane {
namespace {

constexpr int32_t kMaxOutages = 10;
// A service that died so often with a request in flight, the last time with nothing else, died of
// it.
constexpr int32_t kMostCrashes = 3;
// From so many crashes on a request is asked alone. One that is innocent gets its answer then.
constexpr int32_t kSuspectCrashes = 2;
// A service that is there and full is given this many pauses of up to kMaxBackoffMs.
constexpr int32_t kMaxRefusals = 30;
constexpr int64_t kFirstBackoffMs = 50, kMaxBackoffMs = 2000;

bool LaterFirst(const VerifyJob& a, const VerifyJob& b) { return a.due_ms > b.due_ms; }

int32_t& CountOf(VerifyJob& job, Failure failure) {
  switch (failure) {
    case Failure::kAttempt:
      return job.attempts;
    case Failure::kOutage:
      return job.outages;
    case Failure::kBreak:
      return job.breaks;
    case Failure::kCrash:
    case Failure::kCrashAlone:
      return job.crashes;
    case Failure::kRefusal:
      break;
  }
  return job.refusals;
}

// What others may have caused is no try, unless the service died of it and of nothing else at last.
bool UsedUp(const VerifyJob& job, Failure failure, int32_t max_attempts) {
  const bool killer = failure == Failure::kCrashAlone && job.crashes >= kMostCrashes;
  return killer || job.attempts >= max_attempts ||
         job.outages + job.breaks + job.crashes >= kMaxOutages || job.refusals >= kMaxRefusals;
}

}  // namespace

std::optional<VerifyJob> JobQueue::Failed(VerifyJob job, Failure failure, int64_t now_ms) {
  const int32_t count = ++CountOf(job, failure);
  if (UsedUp(job, failure, max_attempts_)) return job;
  job.suspect |= failure == Failure::kBreak || job.crashes >= kSuspectCrashes;
  // When nobody is there the circuit makes the request wait; no pause of its own comes on top.
  const bool pause = failure == Failure::kAttempt || failure == Failure::kRefusal;
  job.due_ms =
      now_ms + (pause ? std::min(kFirstBackoffMs << std::min(count, 6), kMaxBackoffMs) : 0);
  held_.push_back(std::move(job));
  std::push_heap(held_.begin(), held_.end(), LaterFirst);
  return std::nullopt;
}

void JobQueue::TakeDue(int64_t now_ms) {
  while (!held_.empty() && held_.front().due_ms <= now_ms) {
    std::pop_heap(held_.begin(), held_.end(), LaterFirst);
    ready_.push_front(std::move(held_.back()));
    held_.pop_back();
  }
}

VerifyJob JobQueue::Pop() {
  VerifyJob job = std::move(ready_.front());
  ready_.pop_front();
  return job;
}

std::vector<VerifyJob> JobQueue::RemoveOwner(const std::string& owner) {
  std::vector<VerifyJob> removed;
  const auto take = [&](auto& jobs) {
    const auto rest = std::stable_partition(
        jobs.begin(), jobs.end(), [&](const VerifyJob& job) { return job.owner != owner; });
    std::move(rest, jobs.end(), std::back_inserter(removed));
    jobs.erase(rest, jobs.end());
  };
  take(ready_);
  take(held_);
  std::make_heap(held_.begin(), held_.end(), LaterFirst);
  return removed;
}

std::vector<VerifyJob> JobQueue::RemoveAll() {
  std::vector<VerifyJob> all(std::move_iterator(ready_.begin()), std::move_iterator(ready_.end()));
  std::move(held_.begin(), held_.end(), std::back_inserter(all));
  ready_.clear();
  held_.clear();
  return all;
}

std::optional<int64_t> JobQueue::next_due_ms() const {
  if (held_.empty()) return std::nullopt;
  return held_.front().due_ms;
}

std::optional<VerifyJob> GroupGatherer::Add(VerifyJob sample) {
  const auto it = groups_.try_emplace(sample.owner).first;
  const auto needed = static_cast<size_t>(sample.samples);
  const int32_t index = sample.sample_index;
  it->second.insert_or_assign(index, std::move(sample));
  if (it->second.size() < needed) return std::nullopt;
  VerifyJob group;
  std::vector<const v1::VerifyRequest*> requests;
  for (auto& [unused, job] : it->second) {
    requests.push_back(&job.request);
    group.callbacks.push_back(std::move(job.callbacks.front()));
    group.owner = job.owner;
    group.samples = job.samples;
  }
  group.request = GroupRequestOf(requests);
  groups_.erase(it);
  return group;
}

std::vector<VerifyJob> GroupGatherer::RemoveOwner(const std::string& owner) {
  std::vector<VerifyJob> removed;
  const auto it = groups_.find(owner);
  if (it == groups_.end()) return removed;
  for (auto& [unused, job] : it->second) removed.push_back(std::move(job));
  groups_.erase(it);
  return removed;
}

std::vector<VerifyJob> GroupGatherer::RemoveAll() {
  std::vector<VerifyJob> all;
  while (!groups_.empty()) {
    std::vector<VerifyJob> some = RemoveOwner(std::string(groups_.begin()->first));
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace tramontane
