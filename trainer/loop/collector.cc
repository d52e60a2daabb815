#include "trainer/loop/collector.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "common/log.h"
#include "common/record_io.h"
#include "common/status.h"
#include "trainer/ledger/group_gate.h"

namespace tramontane {
namespace {

constexpr int kTakeGroups = 64;
constexpr int kBlockMs = 200;
constexpr int kDeadGroups = 64;
constexpr std::chrono::seconds kHousekeepingInterval(1);

}  // namespace

Collector::Collector(Options options, std::unique_ptr<WorkQueue> queue, const BlobStore& blobs,
                     GroupBook& book, Evaluation& evaluation, Dispatcher& dispatcher,
                     CollectionWindow& window, RedisHealth& health, Failure& failure,
                     MetricsRegistry& metrics)
    : options_(std::move(options)),
      queue_(std::move(queue)),
      blobs_(blobs),
      book_(book),
      evaluation_(evaluation),
      dispatcher_(dispatcher),
      window_(window),
      health_(health),
      failure_(failure),
      metrics_(metrics),
      staleness_(
          metrics.MakeHistogram("tramontane_sample_staleness_versions", {{"stage", "collected"}})),
      waiting_(metrics.MakeGauge("tramontane_queue_groups", {{"state", "waiting"}})),
      leased_(metrics.MakeGauge("tramontane_queue_groups", {{"state", "leased"}})),
      completed_(metrics.MakeGauge("tramontane_queue_groups", {{"state", "completed"}})),
      dead_(metrics.MakeGauge("tramontane_queue_groups", {{"state", "dead"}})),
      oldest_waiting_(metrics.MakeGauge("tramontane_queue_oldest_waiting_seconds")),
      stopping_fn_([this] { return stopping(); }) {}

void Collector::Run(std::stop_token stop) {
  stop_ = std::move(stop);
  while (!stopping()) {
    if (const int64_t rebuilds = dispatcher_.rebuilds(); rebuilds != rebuilds_seen_) {
      rebuilds_seen_ = rebuilds;
      queue_->RewindCompleted();
    }
    absl::StatusOr<std::vector<CompletedGroup>> taken = Patiently(
        health_, stopping_fn_, [&] { return queue_->TakeCompleted(kTakeGroups, kBlockMs); });
    if (!taken.ok()) {
      if (!absl::IsCancelled(taken.status()))
        failure_.Set(Annotate(taken.status(), "taking completed groups"));
      return;
    }
    for (const CompletedGroup& completed : *taken) Handle(completed);
    Housekeeping();
  }
}

QueueStats Collector::stats() const {
  std::lock_guard lock(stats_mutex_);
  return stats_;
}

void Collector::Handle(const CompletedGroup& completed) {
  if (evaluation_.Owns(completed.gid)) return HandleEvaluation(completed);
  // Already here; it is retired when its end is in the journal.
  if (book_.StandingOf(completed.gid) == GroupBook::Standing::kFinished) return;

  absl::StatusOr<std::string> bytes = blobs_.Get(completed.blob);
  absl::StatusOr<Group> group =
      bytes.ok() ? DecodeGroup(*bytes) : absl::StatusOr<Group>(bytes.status());
  const std::optional<uint64_t> cursor = book_.CursorOf(completed.gid);
  if (!group.ok()) {
    LogWarn("group_unreadable", {{"gid", completed.gid}, {"status", group.status()}});
    if (cursor) {
      GiveUp(*cursor, completed.gid, completed.blob, "unreadable", Terminal::kDropped);
    } else {
      dispatcher_.Retire(Terminal::kDropped, {completed.gid});
    }
    return;
  }
  const GroupTask& task = group->task;
  const bool genuine =
      task.gid == completed.gid && task.purpose == Purpose::kTrain &&
      task.gid == MakeGid(options_.run_id, ToString(Purpose::kTrain), task.cursor) &&
      group->rollouts.size() <= static_cast<size_t>(std::max(task.samples, 0));
  if (!genuine && !cursor) {
    // An evaluation of an earlier process, or nothing of this run.
    dispatcher_.Retire(Terminal::kDropped, {completed.gid}, {completed.blob});
    return;
  }
  if (!genuine)
    return GiveUp(*cursor, completed.gid, completed.blob, "not_as_issued", Terminal::kDropped);
  if (!cursor && !book_.Adopt(task.cursor, task.gid)) {
    // Its end is in the journal already: never trained on twice.
    dispatcher_.Retire(Terminal::kDropped, {completed.gid});
    return;
  }
  HandleTraining(completed, std::move(*group));
}

void Collector::HandleTraining(const CompletedGroup& completed, Group group) {
  window_.AddReturned(group);
  const FilterConfig filter = options_.filter(group.task.issued_version + 1);
  const std::map<std::string, int64_t> removed = RemoveInvalidSamples(group, filter);
  // Before the journal holds it: a batch that no step accepts would fail every resume.
  if (const absl::Status accepted = options_.check(group); !accepted.ok()) {
    LogWarn("group_malformed", {{"gid", completed.gid}, {"status", accepted}});
    return GiveUp(group.task.cursor, completed.gid, completed.blob, "malformed",
                  Terminal::kDropped);
  }
  window_.AddGroup(group, removed);
  const int64_t version = book_.version();
  for (const Rollout& rollout : group.rollouts) {
    staleness_.Observe(static_cast<double>(version - MinVersion(rollout)));
  }
  const uint64_t cursor = group.task.cursor;
  const std::string reason = RejectReason(group, filter, book_.gate(), version);
  if (reason.empty()) {
    book_.MarkReady({cursor, std::move(group), completed.blob});
    return;
  }
  book_.MarkDropped({cursor, completed.gid, completed.blob, reason,
                     reason == "stale" ? Terminal::kStale : Terminal::kDropped, std::move(group)});
}

void Collector::HandleEvaluation(const CompletedGroup& completed) {
  absl::StatusOr<std::string> bytes = blobs_.Get(completed.blob);
  absl::StatusOr<Group> group =
      bytes.ok() ? DecodeGroup(*bytes) : absl::StatusOr<Group>(bytes.status());
  std::string task_blob;
  if (group.ok()) {
    task_blob = evaluation_.Finished(completed.gid, std::move(*group));
  } else {
    LogWarn("evaluation_unreadable", {{"gid", completed.gid}, {"status", group.status()}});
    task_blob = evaluation_.Failed(completed.gid);
  }
  std::vector<std::string> remove = {completed.blob};
  if (!task_blob.empty()) remove.push_back(std::move(task_blob));
  dispatcher_.Retire(Terminal::kEvaluated, {completed.gid}, std::move(remove));
}

void Collector::GiveUp(uint64_t cursor, const std::string& gid, const std::string& blob,
                       const std::string& reason, Terminal terminal) {
  book_.MarkDropped({cursor, gid, blob, reason, terminal, std::nullopt});
}

void Collector::HandleDead(const DeadGroup& dead) {
  if (evaluation_.Owns(dead.gid)) {
    LogWarn("evaluation_group_dead", {{"gid", dead.gid}, {"reason", dead.reason}});
    evaluation_.Failed(dead.gid);
    dispatcher_.Retire(Terminal::kDead, {dead.gid}, {dead.blob});
    return;
  }
  std::optional<uint64_t> cursor = book_.CursorOf(dead.gid);
  if (!cursor) {
    // Issued by an earlier process: its task says which prompt it was.
    absl::StatusOr<std::string> bytes = blobs_.Get(dead.blob);
    absl::StatusOr<GroupTask> task =
        bytes.ok() ? DecodeTask(*bytes) : absl::StatusOr<GroupTask>(bytes.status());
    if (!task.ok() || task->purpose != Purpose::kTrain || !book_.Adopt(task->cursor, dead.gid)) {
      dispatcher_.Retire(Terminal::kDead, {dead.gid});
      return;
    }
    cursor = task->cursor;
  }
  if (book_.StandingOf(dead.gid) != GroupBook::Standing::kRunning) return;
  LogWarn("group_dead", {{"gid", dead.gid}, {"cursor", *cursor}, {"reason", dead.reason}});
  GiveUp(*cursor, dead.gid, "", "dead: " + dead.reason, Terminal::kDead);
}

void Collector::Housekeeping() {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_housekeeping_ < kHousekeepingInterval) return;
  last_housekeeping_ = now;
  // Whatever of this fails is tried again in a second; TakeCompleted notices a Redis that is away.
  if (absl::StatusOr<int64_t> reaped = queue_->Reap(options_.lease_s, options_.max_deliveries);
      reaped.ok() && *reaped > 0) {
    LogWarn("leases_expired", {{"groups", *reaped}});
  }
  if (absl::StatusOr<std::vector<DeadGroup>> dead = queue_->ListDead(kDeadGroups); dead.ok()) {
    for (const DeadGroup& group : *dead) HandleDead(group);
  }
  absl::StatusOr<QueueStats> stats = queue_->Stats();
  if (!stats.ok()) return;
  waiting_.Set(static_cast<double>(stats->waiting));
  leased_.Set(static_cast<double>(stats->leased));
  completed_.Set(static_cast<double>(stats->completed));
  dead_.Set(static_cast<double>(stats->dead));
  oldest_waiting_.Set(stats->oldest_waiting_s);
  std::lock_guard lock(stats_mutex_);
  for (const auto& [kind, count] : stats->alarms) {
    const int64_t before = stats_.alarms.count(kind) ? stats_.alarms.at(kind) : 0;
    if (count > before) {
      LogWarn("queue_alarm", {{"kind", kind}, {"count", count}});
      metrics_.MakeCounter("tramontane_queue_alarms_total", {{"kind", kind}})
          .Add(static_cast<double>(count - before));
    }
  }
  stats_ = std::move(*stats);
}

}  // namespace tramontane
