#include "trainer/loop/group_book.h"

#include <algorithm>
#include <utility>

#include "trainer/ledger/group_gate.h"

namespace tramontane {

GroupBook::GroupBook(const Options& options, CursorFrontier frontier)
    : options_(options),
      gate_(options.max_staleness_versions, options.groups_per_step),
      frontier_(std::move(frontier)),
      next_(frontier_.frontier()),
      version_(options.version) {}

int64_t GroupBook::CountLocked(State state) const { return in_state_[static_cast<int>(state)]; }

void GroupBook::SetState(Entry& entry, State state) {
  --in_state_[static_cast<int>(entry.state)];
  ++in_state_[static_cast<int>(state)];
  entry.state = state;
}

int64_t GroupBook::CountOverdueLocked() const {
  return std::count_if(live_.begin(), live_.end(), [this](const auto& item) {
    const Entry& entry = item.second;
    return entry.state == State::kRunning && !gate_.Fresh(entry.issued_version, version_);
  });
}

std::optional<uint64_t> GroupBook::NextToIssue() {
  std::lock_guard lock(mutex_);
  const int64_t running = CountLocked(State::kRunning) - CountOverdueLocked();
  const int64_t gathered = CountLocked(State::kReady) + in_training_;
  // Counted in steps, not groups: a batch that was short, replayed or rolled back cannot make the
  // admission drift.
  const int64_t accepted = options_.groups_per_step.Through(version_) + gathered;
  if (gate_.Capacity(version_, accepted, running) <= 0) return std::nullopt;
  // Near the end: twice what the remaining steps need, as some groups will be dropped.
  const int64_t needed = options_.groups_per_step.Through(options_.max_steps) -
                         options_.groups_per_step.Through(version_);
  if (gathered + running >= 2 * needed) return std::nullopt;
  while (frontier_.Ended(next_) || live_.count(next_) > 0) ++next_;
  live_[next_].issued_version = version_;
  ++in_state_[static_cast<int>(State::kRunning)];
  ++issued_;
  return next_++;
}

void GroupBook::SetIssued(uint64_t cursor, const std::string& gid, const std::string& task_blob) {
  std::lock_guard lock(mutex_);
  const auto it = live_.find(cursor);
  if (it == live_.end()) return;
  it->second.gid = gid;
  it->second.task_blob = task_blob;
  cursor_of_[gid] = cursor;
}

std::vector<GroupBook::Issued> GroupBook::Running() const {
  std::lock_guard lock(mutex_);
  std::vector<Issued> out;
  for (const auto& [cursor, entry] : live_) {
    if (entry.state == State::kRunning && !entry.task_blob.empty()) {
      out.push_back({cursor, entry.gid, entry.task_blob});
    }
  }
  return out;
}

void GroupBook::WaitForChange(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  room_.wait_for(lock, timeout, [&] { return woken_; });
  woken_ = false;
}

void GroupBook::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  room_.notify_all();
  ready_.notify_all();
}

GroupBook::Standing GroupBook::StandingOf(const std::string& gid) const {
  std::lock_guard lock(mutex_);
  const auto it = cursor_of_.find(gid);
  if (it == cursor_of_.end()) return Standing::kUnknown;
  return live_.at(it->second).state == State::kRunning ? Standing::kRunning : Standing::kFinished;
}

std::optional<uint64_t> GroupBook::CursorOf(const std::string& gid) const {
  std::lock_guard lock(mutex_);
  const auto it = cursor_of_.find(gid);
  if (it == cursor_of_.end()) return std::nullopt;
  return it->second;
}

bool GroupBook::Adopt(uint64_t cursor, const std::string& gid) {
  std::lock_guard lock(mutex_);
  if (frontier_.Ended(cursor)) return false;
  const auto [it, is_new] = live_.try_emplace(cursor);
  // Not new: issued by this process just now, its gid not yet set.
  if (is_new) {
    ++in_state_[static_cast<int>(State::kRunning)];
    it->second.issued_version = version_;
  }
  if (it->second.state != State::kRunning) return false;
  it->second.gid = gid;
  cursor_of_[gid] = cursor;
  return true;
}

void GroupBook::MarkReady(ReadyGroup group) {
  {
    std::lock_guard lock(mutex_);
    const auto it = live_.find(group.cursor);
    if (it == live_.end() || it->second.state != State::kRunning) return;
    SetState(it->second, State::kReady);
    it->second.ready = std::move(group);
  }
  ready_.notify_all();
}

void GroupBook::MarkDropped(DroppedGroup group) {
  {
    std::lock_guard lock(mutex_);
    const auto it = live_.find(group.cursor);
    if (it == live_.end() || it->second.state != State::kRunning) return;
    SetState(it->second, State::kDropped);
    dropped_.push_back(std::move(group));
    woken_ = true;
  }
  room_.notify_all();
}

std::optional<std::vector<ReadyGroup>> GroupBook::TakeBatch(bool accept_short) {
  std::lock_guard lock(mutex_);
  const auto wanted = static_cast<size_t>(options_.groups_per_step.At(version_ + 1));
  std::vector<uint64_t> chosen;
  int64_t tokens = 0;
  const auto full = [&] {
    return chosen.size() >= wanted ||
           (options_.tokens_per_step > 0 && tokens >= options_.tokens_per_step);
  };
  for (auto& [cursor, entry] : live_) {
    if (entry.state != State::kReady) continue;
    ReadyGroup& ready = *entry.ready;
    if (!gate_.Fresh(OldestVersion(ready.group), version_)) {
      SetState(entry, State::kDropped);
      dropped_.push_back(
          {cursor, entry.gid, ready.blob, "stale", Terminal::kStale, std::move(ready.group)});
      entry.ready.reset();
      woken_ = true;
      continue;
    }
    if (full()) continue;
    chosen.push_back(cursor);
    for (const Rollout& rollout : ready.group.rollouts)
      tokens += static_cast<int64_t>(rollout.tokens.size()) - CountTokens(rollout.injected);
  }
  if (woken_) room_.notify_all();
  if (chosen.empty() || (!full() && !accept_short)) return std::nullopt;
  std::vector<ReadyGroup> batch;
  for (uint64_t cursor : chosen) {
    Entry& entry = live_.at(cursor);
    SetState(entry, State::kTaken);
    batch.push_back(std::move(*entry.ready));
    entry.ready.reset();
  }
  in_training_ = static_cast<int64_t>(batch.size());
  return batch;
}

bool GroupBook::WaitForReady(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return ready_.wait_for(lock, timeout, [&] {
    return CountLocked(State::kReady) >= options_.groups_per_step.At(version_ + 1);
  });
}

std::vector<DroppedGroup> GroupBook::TakeDropped() {
  std::lock_guard lock(mutex_);
  return std::exchange(dropped_, {});
}

std::vector<std::string> GroupBook::SetEnded(const std::vector<uint64_t>& cursors) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> task_blobs;
  for (uint64_t cursor : cursors) {
    frontier_.End(cursor);
    const auto it = live_.find(cursor);
    if (it == live_.end()) continue;
    if (!it->second.task_blob.empty()) task_blobs.push_back(it->second.task_blob);
    --in_state_[static_cast<int>(it->second.state)];
    cursor_of_.erase(it->second.gid);
    live_.erase(it);
  }
  return task_blobs;
}

void GroupBook::DropAll(const std::string& reason) {
  std::lock_guard lock(mutex_);
  for (auto& [cursor, entry] : live_) {
    if (entry.gid.empty() || (entry.state != State::kRunning && entry.state != State::kReady))
      continue;
    DroppedGroup dropped{cursor, entry.gid, "", reason, Terminal::kDropped, std::nullopt};
    if (entry.ready) {
      dropped.blob = entry.ready->blob;
      dropped.group = std::move(entry.ready->group);
      entry.ready.reset();
    }
    SetState(entry, State::kDropped);
    dropped_.push_back(std::move(dropped));
  }
}

void GroupBook::StepDone(int64_t version) {
  {
    std::lock_guard lock(mutex_);
    version_ = version;
    in_training_ = 0;
    woken_ = true;
  }
  room_.notify_all();
}

CursorFrontier GroupBook::frontier() const {
  std::lock_guard lock(mutex_);
  return frontier_;
}

BookCounts GroupBook::counts() const {
  std::lock_guard lock(mutex_);
  return {issued_, CountLocked(State::kRunning), CountLocked(State::kReady), in_training_};
}

int64_t GroupBook::version() const {
  std::lock_guard lock(mutex_);
  return version_;
}

}  // namespace tramontane
