// The learner's part of the loop, from batch to batch: waiting for one, pausing, training on it.
#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/status.h"
#include "trainer/ledger/pause_file.h"
#include "trainer/loop/waiting.h"
#include "trainer/run_loop_impl.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kTick(100);
// Dropped groups are journalled with the next batch, or when so many or so old without one.
constexpr double kDropFlushS = 1;
// A run directory without so much room is full: its next groups will not fit.
constexpr size_t kLeastRoomBytes = size_t{1} << 20;

}  // namespace

absl::Status RunLoop::Impl::Train(const std::atomic<bool>& stop, std::string& reason) {
  while (true) {
    reason = StopReason(stop);
    if (stop || !reason.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(WhilePaused(stop));
    ASSIGN_OR_RETURN(std::optional<std::vector<ReadyGroup>> batch, AwaitBatch(stop));
    if (!batch) continue;  // told to stop, or out of time
    RETURN_IF_ERROR(TakeStep(std::move(*batch)));
  }
}

absl::StatusOr<std::optional<std::vector<ReadyGroup>>> RunLoop::Impl::AwaitBatch(
    const std::atomic<bool>& stop) {
  WaitNotice notice(step_, board_, events_);
  while (true) {
    if (failure_.failed()) return failure_.Get();
    if (stop || !StopReason(stop).empty()) return std::optional<std::vector<ReadyGroup>>();
    if (PauseReason(options_.run_dir)) return std::optional<std::vector<ReadyGroup>>();
    const int64_t wanted = batches_.At(step_ + 1);
    const Starvation::Answer answer = starvation_.Look(journal_.dropped(), wanted);
    std::optional<std::vector<ReadyGroup>> batch =
        book_.TakeBatch(answer == Starvation::Answer::kTakeShort);
    if (batch) {
      if (answer != Starvation::Answer::kWait) starved_.Add();
      starvation_.StepTaken();
      batch_wait_s_ = notice.seconds();
      return batch;
    }
    if (answer == Starvation::Answer::kPause) {
      starved_.Add();
      RETURN_IF_ERROR(PauseRun(options_.run_dir,
                               std::to_string(journal_.dropped()) +
                                   " groups were dropped since step " + std::to_string(step_) +
                                   ", which leaves too few for a batch (trainer.starvation)"));
      continue;
    }
    if (journal_.seconds_since_append() >= kDropFlushS)
      RETURN_IF_ERROR(journal_.AppendDrops(step_));
    TakeEvalResults();
    const bool said_aloud = notice.StillWaiting(DescribeGroupWait(
        book_.counts(), wanted, journal_.dropped(), collector_.stats(), health_.SecondsDown()));
    // Generators and Redis wait out a full disk, each in its place; somebody has to say that it is.
    if (said_aloud) RETURN_IF_ERROR(CheckRoom(options_.run_dir, kLeastRoomBytes));
    book_.WaitForReady(kTick);
  }
}

// Nothing new is issued meanwhile; what is under way comes in and waits.
absl::Status RunLoop::Impl::WhilePaused(const std::atomic<bool>& stop) {
  const std::optional<std::string> reason = PauseReason(options_.run_dir);
  if (!reason) return absl::OkStatus();
  const auto say = [&](const char* what) {
    const Json event = {{"event", what}, {"step", step_}, {"reason", *reason}};
    recorder_.Append(event);
    events_.Emit(event);
  };
  dispatcher_.AllowTraining(false);
  paused_.Set(1);
  say("paused");
  const auto since = std::chrono::steady_clock::now();
  while (!stop && !failure_.failed() && PauseReason(options_.run_dir)) {
    board_.Set(step_, "paused", "`tramontane unpause`: " + *reason, SecondsSince(since));
    TakeEvalResults();
    std::this_thread::sleep_for(kTick);
  }
  paused_.Set(0);
  starvation_.Forgive(journal_.dropped());
  if (stop || failure_.failed()) return failure_.Get();
  dispatcher_.AllowTraining(true);
  say("unpaused");
  return absl::OkStatus();
}

absl::Status RunLoop::Impl::TakeStep(std::vector<ReadyGroup> batch) {
  board_.Set(step_, "training");
  RETURN_IF_ERROR(Annotate(journal_.AppendBatch(step_ + 1, batch),
                           "journalling step " + std::to_string(step_ + 1)));
  // The learner reads whole groups; they are moved there and back, not copied.
  std::vector<Group> groups;
  groups.reserve(batch.size());
  for (ReadyGroup& ready : batch) groups.push_back(std::move(ready.group));
  ASSIGN_OR_RETURN(StepReport report, trainable_.Step(groups, step_ + 1));
  for (size_t i = 0; i < batch.size(); ++i) batch[i].group = std::move(groups[i]);
  const int64_t version_before = step_++;
  book_.StepDone(step_);
  const int64_t publish_every = std::max(1, trainer_.publish_interval_steps);
  if (step_ % publish_every == 0 || step_ == options_.config.run.max_steps) Offer();

  consecutive_skips_ = report.nonfinite ? consecutive_skips_ + 1 : 0;
  const std::string skip_reason = report.skip_reason;
  TakeEvalResults();
  std::vector<DroppedGroup> dropped = journal_.TakeDropped();
  std::vector<std::string> addresses;
  for (const ReadyGroup& ready : batch) addresses.push_back(ready.blob);
  board_.AddStep(report.seconds, batch.size(), dropped.size());
  const Json line = recorder_.Record({.report = std::move(report),
                                      .batch = std::move(batch),
                                      .dropped = std::move(dropped),
                                      .window = window_.Take(),
                                      .counts = book_.counts(),
                                      .version_before = version_before,
                                      .epoch = epoch_,
                                      .published_version = publish_.published_version(),
                                      .published_count = publish_.published_count(),
                                      .probe_gap = publisher_.ProbeGap(),
                                      .wait_seconds = batch_wait_s_,
                                      .redis_down_seconds = health_.SecondsDown()});
  RETURN_IF_ERROR(incidents_.Look(line, addresses));
  exits_.StepDone(recorder_.last_reward());
  board_.Set(step_, "training");
  if (consecutive_skips_ > trainer_.max_nonfinite_steps) {
    return absl::InternalError(std::to_string(consecutive_skips_) +
                               " steps in a row were not finite: " + skip_reason);
  }
  const bool last = step_ == options_.config.run.max_steps;
  const int64_t eval_every = trainer_.eval_interval_steps;
  if (eval_every > 0 && step_ % eval_every == 0 && !last) evaluation_.Start(step_);
  const int64_t save_every = trainer_.checkpoint_interval_steps;
  if (save_every > 0 && step_ % save_every == 0 && !last)
    RETURN_IF_ERROR(checkpointer_.Save(step_));
  return absl::OkStatus();
}

void RunLoop::Impl::TakeEvalResults() {
  for (EvalResult& result : evaluation_.TakeResults()) {
    exits_.Evaluated(result.accuracy);
    recorder_.RecordEval(std::move(result));
  }
}

}  // namespace tramontane
