#include "trainer/loop/loop_journal.h"

#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/status.h"

namespace tramontane {
namespace {

// Who judged the batch: "name@version" → the digests seen.
Json VerifiersOf(const std::vector<ReadyGroup>& batch) {
  std::map<std::string, std::set<std::string>> digests;
  for (const ReadyGroup& ready : batch) {
    for (const Rollout& rollout : ready.group.rollouts) {
      const Verdict& verdict = rollout.verdict;
      digests[verdict.verifier + "@" + verdict.verifier_version].insert(verdict.verifier_digest);
    }
  }
  return digests;
}

}  // namespace

LoopJournal::LoopJournal(std::unique_ptr<Journal> journal, int64_t epoch, int32_t samples_per_group,
                         GroupBook& book, PromptSource& source, Dispatcher& dispatcher,
                         CollectionWindow& window, MetricsRegistry& metrics)
    : journal_(std::move(journal)),
      epoch_(epoch),
      samples_per_group_(samples_per_group),
      book_(book),
      source_(source),
      dispatcher_(dispatcher),
      window_(window),
      append_seconds_(metrics.MakeHistogram("tramontane_journal_append_seconds")) {}

double LoopJournal::seconds_since_append() const { return SecondsSince(last_append_); }

std::vector<DroppedGroup> LoopJournal::TakeDropped() { return std::exchange(dropped_, {}); }

absl::Status LoopJournal::AppendBatch(int64_t step, const std::vector<ReadyGroup>& batch) {
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(WriteDrops(step - 1, /*durable=*/false));
  JournalRecord record;
  record.kind = "batch";
  record.epoch = epoch_;
  record.step = step;
  for (const ReadyGroup& ready : batch) {
    record.gids.push_back(ready.group.task.gid);
    record.blobs.push_back(ready.blob);
    record.cursors.push_back(ready.cursor);
  }
  RowOutcomes outcomes;
  for (const ReadyGroup& ready : batch) outcomes.Add(ready.group);
  record.detail = {{"verifiers", VerifiersOf(batch)}, {"rows", outcomes.ToJson()}};
  RETURN_IF_ERROR(journal_->Append(record, /*durable=*/true));
  source_.Record(record.detail["rows"]);
  append_seconds_.Observe(SecondsSince(start));
  janitor_.Ended(book_.SetEnded(record.cursors));
  janitor_.Ended(record.blobs);
  std::vector<std::string>& trained = ended_[Terminal::kTrained];
  trained.insert(trained.end(), record.gids.begin(), record.gids.end());
  RetireEnded();
  return absl::OkStatus();
}

absl::Status LoopJournal::AppendDrops(int64_t step) {
  RETURN_IF_ERROR(WriteDrops(step, /*durable=*/true));
  RetireEnded();
  return absl::OkStatus();
}

absl::Status LoopJournal::AppendRollback(int64_t step, const std::string& reason) {
  JournalRecord record;
  record.kind = "rollback";
  record.epoch = epoch_;
  record.step = step;
  record.detail = {{"reason", reason}};
  return journal_->Append(record, /*durable=*/true);
}

absl::Status LoopJournal::WriteDrops(int64_t step, bool durable) {
  last_append_ = std::chrono::steady_clock::now();
  std::vector<DroppedGroup> dropped = book_.TakeDropped();
  std::map<std::string, JournalRecord> by_reason;
  std::map<std::string, RowOutcomes> outcomes;
  for (const DroppedGroup& group : dropped) {
    JournalRecord& record = by_reason[group.reason];
    record.kind = "drop";
    record.epoch = epoch_;
    record.step = step;
    record.detail = {{"reason", group.reason}};
    record.gids.push_back(group.gid);
    record.cursors.push_back(group.cursor);
    if (group.group) outcomes[group.reason].Add(*group.group);
  }
  for (const auto& [reason, rows] : outcomes) by_reason[reason].detail["rows"] = rows.ToJson();
  for (auto it = by_reason.begin(); it != by_reason.end(); ++it) {
    const bool last = std::next(it) == by_reason.end();
    RETURN_IF_ERROR(journal_->Append(it->second, durable && last));
    if (it->second.detail.contains("rows")) source_.Record(it->second.detail["rows"]);
    janitor_.Ended(book_.SetEnded(it->second.cursors));
  }
  for (DroppedGroup& group : dropped) {
    ended_[group.terminal].push_back(group.gid);
    if (!group.blob.empty()) janitor_.Ended({group.blob});
    window_.AddDropped(group.reason, group.group
                                         ? static_cast<int64_t>(group.group->rollouts.size())
                                         : samples_per_group_);
    dropped_.push_back(std::move(group));
  }
  return absl::OkStatus();
}

void LoopJournal::RetireEnded() {
  for (auto& [terminal, gids] : ended_) {
    if (!gids.empty()) dispatcher_.Retire(terminal, std::move(gids));
  }
  ended_.clear();
}

}  // namespace tramontane
