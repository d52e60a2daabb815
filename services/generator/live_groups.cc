#include "services/generator/live_groups.h"

#include <utility>

namespace tramontane {

LiveGroupPtr LiveGroups::Open(Lease lease, GroupTask task) {
  auto group = std::make_shared<LiveGroup>();
  group->request_id = lease.gid + "#" + std::to_string(lease.delivery);
  group->lease = std::move(lease);
  group->task = std::move(task);
  group->unsampled = group->unverified = group->task.samples;
  group->rollouts.resize(static_cast<size_t>(group->task.samples));
  group->came_judged.resize(group->rollouts.size(), 0);
  std::lock_guard lock(mutex_);
  unsampled_ += group->unsampled;
  open_[group->request_id] = group;
  return group;
}

bool LiveGroups::SampleDone(const LiveGroupPtr& group, Rollout rollout) {
  std::lock_guard lock(mutex_);
  if (group->closed) return false;
  const auto index = static_cast<size_t>(rollout.sample_index);
  group->came_judged.at(index) = rollout.verdict.status != VerdictStatus::kUnspecified;
  group->rollouts.at(index) = std::move(rollout);
  --group->unsampled;
  --unsampled_;
  return true;
}

LiveGroups::Verdicts LiveGroups::VerdictDone(const LiveGroupPtr& group, int32_t sample_index,
                                             Verdict verdict) {
  std::lock_guard lock(mutex_);
  if (group->closed) return Verdicts::kMissing;
  group->rollouts.at(static_cast<size_t>(sample_index)).verdict = std::move(verdict);
  if (--group->unverified > 0) return Verdicts::kMissing;
  if (OneVerifierVersion(group->rollouts)) return Verdicts::kComplete;
  group->unverified = group->task.samples;
  ++group->rescored;
  return Verdicts::kMixed;
}

Rollout LiveGroups::Sample(const LiveGroupPtr& group, int32_t sample_index) const {
  std::lock_guard lock(mutex_);
  return group->rollouts.at(static_cast<size_t>(sample_index));
}

bool LiveGroups::CameJudged(const LiveGroupPtr& group, int32_t sample_index) const {
  std::lock_guard lock(mutex_);
  return group->came_judged.at(static_cast<size_t>(sample_index)) != 0;
}

Group LiveGroups::Take(const LiveGroupPtr& group, const std::string& generator_id) {
  std::lock_guard lock(mutex_);
  return Group{group->task, std::move(group->rollouts), generator_id};
}

bool LiveGroups::Close(const LiveGroupPtr& group) {
  std::lock_guard lock(mutex_);
  if (group->closed) return false;
  group->closed = true;
  unsampled_ -= group->unsampled;
  open_.erase(group->request_id);
  return true;
}

std::vector<LiveGroupPtr> LiveGroups::OpenGroups() const {
  std::lock_guard lock(mutex_);
  std::vector<LiveGroupPtr> groups;
  groups.reserve(open_.size());
  for (const auto& [id, group] : open_) groups.push_back(group);
  return groups;
}

int32_t LiveGroups::unsampled() const {
  std::lock_guard lock(mutex_);
  return unsampled_;
}

int32_t LiveGroups::open_groups() const {
  std::lock_guard lock(mutex_);
  return static_cast<int32_t>(open_.size());
}

}  // namespace tramontane
