#include "trainer/loop/evaluation.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/hash.h"

namespace tramontane {
namespace {

SamplingParams Greedy(const RolloutSection& rollout) {
  SamplingParams sampling;
  sampling.temperature = 0;
  sampling.max_new_tokens = rollout.max_new_tokens;
  sampling.stop = rollout.stop;
  sampling.thinking = ThinkingOf(rollout);
  return sampling;
}

}  // namespace

Evaluation::Evaluation(std::vector<PromptRow> rows, const std::string& run_id, int64_t epoch,
                       const RolloutSection& rollout)
    : rows_(std::move(rows)),
      id_space_(run_id + '\n' + std::to_string(epoch)),
      sampling_(Greedy(rollout)) {}

void Evaluation::Start(int64_t step) {
  if (!enabled()) return;
  std::lock_guard lock(mutex_);
  for (const Round& round : rounds_) {
    if (round.result.step == step) return;
  }
  Round& round = rounds_.emplace_back();
  round.result.step = step;
  round.result.rows = static_cast<int64_t>(rows_.size());
  round.result.version_min = -1;
  round.started_ms = SystemClock().NowMonotonicMs();
  for (size_t i = 0; i < rows_.size(); ++i) {
    GroupTask task;
    task.cursor = rounds_started_ * rows_.size() + i;
    task.gid = MakeGid(id_space_, ToString(Purpose::kEval), task.cursor);
    task.purpose = Purpose::kEval;
    task.samples = 1;
    task.row = rows_[i];
    task.sampling = sampling_;
    task.issued_version = step;
    round.awaited[task.gid] = "";
    round_of_[task.gid] = &round;
    tasks_.push_back(std::move(task));
  }
  ++rounds_started_;
}

bool Evaluation::active() const {
  std::lock_guard lock(mutex_);
  return !rounds_.empty();
}

int64_t Evaluation::outstanding() const {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(round_of_.size());
}

std::optional<GroupTask> Evaluation::NextTask() {
  std::lock_guard lock(mutex_);
  if (tasks_.empty()) return std::nullopt;
  GroupTask task = std::move(tasks_.front());
  tasks_.pop_front();
  return task;
}

void Evaluation::SetIssued(const std::string& gid, const std::string& task_blob) {
  std::lock_guard lock(mutex_);
  if (const auto it = round_of_.find(gid); it != round_of_.end()) it->second->awaited[gid] = task_blob;
}

std::vector<Evaluation::Issued> Evaluation::Running() const {
  std::lock_guard lock(mutex_);
  std::vector<Issued> out;
  for (const Round& round : rounds_) {
    for (const auto& [gid, blob] : round.awaited) {
      if (!blob.empty()) out.push_back({gid, blob});
    }
  }
  return out;
}

bool Evaluation::Owns(const std::string& gid) const {
  std::lock_guard lock(mutex_);
  return round_of_.count(gid) > 0;
}

std::string Evaluation::Finished(const std::string& gid, Group group) {
  return Settle(gid, std::move(group));
}

std::string Evaluation::Failed(const std::string& gid) { return Settle(gid, std::nullopt); }

std::string Evaluation::Settle(const std::string& gid, std::optional<Group> group) {
  std::lock_guard lock(mutex_);
  const auto it = round_of_.find(gid);
  if (it == round_of_.end()) return "";
  Round& round = *it->second;
  round_of_.erase(it);
  const auto awaited = round.awaited.find(gid);
  std::string task_blob = awaited->second;
  round.awaited.erase(awaited);

  const Rollout* answer = group && !group->rollouts.empty() ? &group->rollouts.front() : nullptr;
  const bool valid = answer != nullptr && answer->verdict.score.has_value() &&
                     (answer->verdict.status == VerdictStatus::kScored ||
                      answer->verdict.status == VerdictStatus::kPolicyFailure);
  if (valid) {
    ++round.valid;
    round.correct += answer->verdict.correct ? 1 : 0;
    round.reward_sum += *answer->verdict.score;
    EvalResult& result = round.result;
    result.version_max = std::max(result.version_max, MaxVersion(*answer));
    result.version_min = result.version_min < 0 ? MinVersion(*answer)
                                                : std::min(result.version_min, MinVersion(*answer));
  }
  if (group) round.result.groups.push_back(std::move(*group));
  if (round.awaited.empty()) {
    EvalResult& result = round.result;
    result.invalid = result.rows - round.valid;
    result.accuracy = round.valid ? static_cast<double>(round.correct) / round.valid : 0;
    result.reward_mean = round.valid ? round.reward_sum / round.valid : 0;
    result.version_min = std::max<int64_t>(result.version_min, 0);
    result.seconds = (SystemClock().NowMonotonicMs() - round.started_ms) / 1e3;
    results_.push_back(std::move(result));
    rounds_.remove_if([&](const Round& other) { return &other == &round; });
  }
  return task_blob;
}

std::vector<EvalResult> Evaluation::TakeResults() {
  std::lock_guard lock(mutex_);
  return std::exchange(results_, {});
}

}  // namespace tramontane
