#include "trainer/loop/dispatcher.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/hash.h"
#include "common/log.h"
#include "common/record_io.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kTick(50);
// Heals what nobody noticed, such as a Redis that came back from an old backup.
constexpr std::chrono::seconds kReconcileInterval(30);

// Every group samples from its own stream, the same on every machine and after every restart.
uint64_t SamplingSeed(uint64_t seed, uint64_t cursor) {
  const std::string digest =
      Sha256Hex("sampling\n" + std::to_string(seed) + '\n' + std::to_string(cursor));
  return std::strtoull(digest.substr(0, 16).c_str(), nullptr, 16);
}

SamplingParams TrainSampling(const RolloutSection& rollout) {
  SamplingParams sampling;
  sampling.temperature = rollout.temperature;
  sampling.top_p = rollout.top_p;
  sampling.top_k = rollout.top_k;
  sampling.min_p = rollout.min_p;
  sampling.max_new_tokens = rollout.max_new_tokens;
  sampling.stop = rollout.stop;
  sampling.repetition_tokens = rollout.repetition_tokens;
  sampling.repetition_times = rollout.repetition_times;
  sampling.thinking = ThinkingOf(rollout);
  return sampling;
}

}  // namespace

Dispatcher::Dispatcher(Options options, const std::vector<PromptRow>& rows, PromptSource& source,
                       std::unique_ptr<WorkQueue> queue, const BlobStore& blobs, GroupBook& book,
                       Evaluation& evaluation, RedisHealth& health, Failure& failure,
                       MetricsRegistry& metrics)
    : options_(std::move(options)),
      rows_(rows),
      source_(source),
      queue_(std::move(queue)),
      blobs_(blobs),
      book_(book),
      evaluation_(evaluation),
      health_(health),
      failure_(failure),
      metrics_(metrics),
      issued_(metrics.MakeCounter("tramontane_groups_total", {{"event", "issued"}})),
      stopping_fn_([this] { return stopping(); }) {}

void Dispatcher::Run(std::stop_token stop) {
  stop_ = std::move(stop);
  last_reconcile_ = std::chrono::steady_clock::now();
  AdoptOutstanding();
  while (!stopping()) {
    FlushRetirements();
    IssueEvaluation();
    if (training_allowed_) IssueTraining();
    const bool recovered = health_.recoveries() != seen_recoveries_;
    if (recovered || reconcile_ ||
        std::chrono::steady_clock::now() - last_reconcile_ > kReconcileInterval) {
      seen_recoveries_ = health_.recoveries();
      Reconcile();
    }
    book_.WaitForChange(kTick);
  }
}

void Dispatcher::Retire(Terminal terminal, std::vector<std::string> gids,
                        std::vector<std::string> remove) {
  {
    std::lock_guard lock(mutex_);
    retirements_.push_back({terminal, std::move(gids), std::move(remove)});
  }
  book_.Wake();
}

void Dispatcher::Drain(bool empty) {
  FlushRetirements();
  if (!empty) return;
  if (absl::Status status = queue_->Reset(); !status.ok())
    LogWarn("queue_not_emptied", {{"status", status}});
}

void Dispatcher::AdoptOutstanding() {
  absl::StatusOr<std::vector<UnretiredGroup>> live =
      Patiently(health_, stopping_fn_, [&] { return queue_->ListUnretired(); });
  if (!live.ok()) {
    if (!absl::IsCancelled(live.status()))
      failure_.Set(Annotate(live.status(), "listing the queue"));
    return;
  }
  std::vector<std::string> not_ours;
  for (const UnretiredGroup& group : *live) {
    std::optional<GroupTask> task;
    if (absl::StatusOr<std::string> bytes = blobs_.Get(group.blob); bytes.ok() && group.completed) {
      if (absl::StatusOr<Group> decoded = DecodeGroup(*bytes); decoded.ok())
        task = std::move(decoded->task);
    } else if (bytes.ok()) {
      if (absl::StatusOr<GroupTask> decoded = DecodeTask(*bytes); decoded.ok())
        task = std::move(*decoded);
    }
    const bool ours = task && task->purpose == Purpose::kTrain && task->gid == group.gid;
    if (ours && book_.Adopt(task->cursor, group.gid)) {
      if (!group.completed) book_.SetIssued(task->cursor, group.gid, group.blob);
    } else if (!ours || book_.StandingOf(group.gid) != GroupBook::Standing::kFinished) {
      not_ours.push_back(group.gid);
    }  // else the collector was faster; its end is not in the journal yet
  }
  LogInfo("queue_taken_over",
          {{"groups", live->size() - not_ours.size()}, {"retired", not_ours.size()}});
  if (!not_ours.empty()) Retire(Terminal::kDropped, std::move(not_ours));
}

void Dispatcher::FlushRetirements() {
  while (true) {
    Retirement next;
    {
      std::lock_guard lock(mutex_);
      if (retirements_.empty()) return;
      next = std::move(retirements_.front());
      retirements_.pop_front();
      // Evaluation groups come one by one: take all of a kind in one call.
      while (!retirements_.empty() && retirements_.front().terminal == next.terminal) {
        Retirement& same = retirements_.front();
        next.gids.insert(next.gids.end(), same.gids.begin(), same.gids.end());
        next.remove.insert(next.remove.end(), same.remove.begin(), same.remove.end());
        retirements_.pop_front();
      }
    }
    absl::Status status;
    do {
      status = Patiently(health_, stopping_fn_,
                         [&] { return queue_->Retire(next.gids, next.terminal, options_.epoch); });
    } while (absl::IsFailedPrecondition(status) && Restore());  // forgotten
    if (status.ok()) {
      for (const std::string& address : next.remove) {
        if (absl::Status removed = blobs_.Remove(address); !removed.ok()) {
          LogWarn("blob_not_removed", {{"status", removed}});
        }
      }
    } else if (!absl::IsCancelled(status)) {
      failure_.Set(Annotate(status, "retiring groups"));
    }
    if (!status.ok()) return;
  }
}

bool Dispatcher::Put(const GroupTask& task, std::string& address) {
  absl::StatusOr<std::string> put = blobs_.Put(EncodeTask(task));
  if (!put.ok()) {
    failure_.Set(Annotate(put.status(), "writing a task"));
    return false;
  }
  address = std::move(*put);
  return true;
}

absl::StatusOr<AdmitResult> Dispatcher::AdmitPatiently(const std::string& gid,
                                                       const std::string& blob, Purpose purpose) {
  return Patiently(health_, stopping_fn_, [&] {
    return queue_->Admit(gid, blob, purpose, options_.epoch, options_.high_water);
  });
}

bool Dispatcher::Admit(const GroupTask& task, const std::string& address, AdmitResult& result) {
  absl::StatusOr<AdmitResult> admitted = AdmitPatiently(task.gid, address, task.purpose);
  if (!admitted.ok()) {
    if (!absl::IsCancelled(admitted.status()))
      failure_.Set(Annotate(admitted.status(), "admitting a group"));
    return false;
  }
  result = *admitted;
  switch (result) {
    case AdmitResult::kBusy:
      return false;
    case AdmitResult::kForgotten:
      reconcile_ = true;
      return false;
    case AdmitResult::kFenced:
      failure_.Set(absl::AbortedError("another trainer has taken over this run"));
      return false;
    default:
      return true;
  }
}

void Dispatcher::IssueEvaluation() {
  while (!stopping()) {
    if (!pending_eval_) {
      std::optional<GroupTask> task = evaluation_.NextTask();
      if (!task) return;
      task->trainer_epoch = options_.epoch;
      Pending pending{std::move(*task), ""};
      if (!Put(pending.task, pending.address)) return;
      evaluation_.SetIssued(pending.task.gid, pending.address);
      pending_eval_ = std::move(pending);
    }
    AdmitResult result;
    if (!Admit(pending_eval_->task, pending_eval_->address, result)) return;
    pending_eval_.reset();
  }
}

GroupTask Dispatcher::MakeTrainTask(uint64_t cursor) {
  GroupTask task;
  task.cursor = cursor;
  task.gid = MakeGid(options_.run_id, ToString(Purpose::kTrain), cursor);
  task.purpose = Purpose::kTrain;
  task.issued_version = book_.version();
  if (const int64_t step = task.issued_version + 1; step != rollout_step_) {
    rollout_ = options_.rollout(step);
    reward_weights_ = options_.reward_weights(step);
    rollout_step_ = step;
    for (const auto& [part, weight] : reward_weights_)
      metrics_.MakeGauge("tramontane_reward_weight", {{"part", part}}).Set(weight);
  }
  task.samples = SamplesOf(rollout_);
  if (rollout_.correction.samples > 0) {
    task.answers = rollout_.samples_per_group;
    task.corrections_by_prompt = rollout_.correction.group_by == "prompt";
  }
  task.row = rows_[source_.Draw(cursor, task.issued_version + 1)];
  task.sampling = TrainSampling(rollout_);
  task.sampling.seed = SamplingSeed(options_.seed, cursor);
  task.trainer_epoch = options_.epoch;
  task.wants_routes = options_.wants_routes;
  task.reward_weights = reward_weights_;
  return task;
}

void Dispatcher::IssueTraining() {
  while (!stopping()) {
    if (!pending_train_) {
      const std::optional<uint64_t> cursor = book_.NextToIssue();
      if (!cursor) return;
      Pending pending{MakeTrainTask(*cursor), ""};
      if (!Put(pending.task, pending.address)) return;
      book_.SetIssued(*cursor, pending.task.gid, pending.address);
      pending_train_ = std::move(pending);
    }
    AdmitResult result;
    if (!Admit(pending_train_->task, pending_train_->address, result)) return;
    const GroupTask& task = pending_train_->task;
    if (result == AdmitResult::kEnded) {
      // Redis remembers an end that the journal does not: believe it and go on with another prompt.
      book_.MarkDropped(
          {task.cursor, task.gid, "", "ended_before", Terminal::kDropped, std::nullopt});
    }
    issued_.Add();
    pending_train_.reset();
    // Freed places and ended groups are looked at again between two admissions of a long row.
    FlushRetirements();
  }
}

bool Dispatcher::Restore() {
  const absl::Status restored =
      Patiently(health_, stopping_fn_, [&] { return queue_->Restore(options_.epoch); });
  if (!restored.ok()) {
    if (!absl::IsCancelled(restored)) failure_.Set(Annotate(restored, "restoring the queue"));
    return false;
  }
  LogWarn("redis_lost_its_data", {{"epoch", options_.epoch}});
  ++rebuilds_;
  reconcile_ = true;
  return true;
}

bool Dispatcher::AdmitAgain(const std::string& gid, const std::string& blob, Purpose purpose,
                            int64_t& readmitted) {
  absl::StatusOr<AdmitResult> result = AdmitPatiently(gid, blob, purpose);
  if (result.ok() && *result == AdmitResult::kForgotten) {
    if (!Restore()) return false;
    result = AdmitPatiently(gid, blob, purpose);
  }
  if (!result.ok()) {
    if (!absl::IsCancelled(result.status()))
      failure_.Set(Annotate(result.status(), "admitting again"));
    return false;
  }
  if (*result == AdmitResult::kFenced) {
    failure_.Set(absl::AbortedError("another trainer has taken over this run"));
    return false;
  }
  if (*result == AdmitResult::kAdmitted) ++readmitted;
  return *result != AdmitResult::kBusy;  // busy: the next round goes on
}

void Dispatcher::Reconcile() {
  last_reconcile_ = std::chrono::steady_clock::now();
  reconcile_ = false;
  int64_t readmitted = 0;
  bool whole = true;
  for (const Evaluation::Issued& group : evaluation_.Running()) {
    whole = whole && AdmitAgain(group.gid, group.task_blob, Purpose::kEval, readmitted);
  }
  for (const GroupBook::Issued& group : book_.Running()) {
    whole = whole && AdmitAgain(group.gid, group.task_blob, Purpose::kTrain, readmitted);
  }
  reconcile_ = !whole;
  if (readmitted > 0) LogInfo("groups_admitted_again", {{"groups", readmitted}});
}

}  // namespace tramontane
