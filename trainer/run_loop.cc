#include "trainer/run_loop.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "queue/blob_store.h"
#include "trainer/ledger/pause_file.h"
#include "trainer/loop/background_writer.h"
#include "trainer/loop/checkpointer.h"
#include "trainer/loop/collection_window.h"
#include "trainer/loop/collector.h"
#include "trainer/loop/dispatcher.h"
#include "trainer/loop/evaluation.h"
#include "trainer/loop/exit_rules.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/incidents.h"
#include "trainer/loop/loop_journal.h"
#include "trainer/loop/loop_shared.h"
#include "trainer/loop/orphan_sweep.h"
#include "trainer/loop/publish_thread.h"
#include "trainer/loop/recovery.h"
#include "trainer/loop/startup.h"
#include "trainer/loop/starvation.h"
#include "trainer/loop/state_board.h"
#include "trainer/loop/step_recorder.h"
#include "trainer/loop/waiting.h"

namespace tramontane {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTick(100);
// Dropped groups are journalled with the next batch, or when so many or so old without one.
constexpr double kDropFlushS = 1;
constexpr double kEvalStallS = 120;
constexpr double kFinalPublishS = 60;
// A run directory without so much room is full: its next groups will not fit.
constexpr size_t kLeastRoomBytes = size_t{1} << 20;

BatchPlan PlanBatches(const RunConfig& config) {
  std::vector<BatchPlan::Part> parts = {{1, config.trainer.groups_per_step}};
  const auto schedule = config.schedules.find("trainer.groups_per_step");
  if (schedule == config.schedules.end()) return BatchPlan(std::move(parts));
  for (int64_t step : schedule->second.steps) {
    if (step == 1) parts.clear();
    parts.push_back({step, ConfigAtStep(config, step).trainer.groups_per_step});
  }
  return BatchPlan(std::move(parts));
}

}  // namespace

// The order of members is the order of construction; threads are started by Run and end in it.
class RunLoop::Impl {
 public:
  Impl(Options options, LoopParts parts, Trainable& trainable, std::vector<PromptRow> train_rows,
       std::vector<PromptRow> eval_rows, WeightPublisher& publisher, MetricsRegistry& metrics);

  absl::Status Run(const std::atomic<bool>& stop);
  LoopState state() const {
    LoopState state = board_.Get();
    state.queue = collector_.stats();
    state.steps = options_.config.run.max_steps;
    return state;
  }
  int64_t epoch() const { return epoch_; }

 private:
  absl::Status Replay(const std::atomic<bool>& stop);
  absl::Status AwaitReceiver(const std::atomic<bool>& stop, double timeout_s);
  absl::Status Train(const std::atomic<bool>& stop, std::string& reason);
  absl::StatusOr<std::optional<std::vector<ReadyGroup>>> AwaitBatch(const std::atomic<bool>& stop);
  absl::Status TakeStep(std::vector<ReadyGroup> batch);
  absl::Status WhilePaused(const std::atomic<bool>& stop);
  void Offer();
  void TakeEvalResults();
  absl::Status FinalEvaluation(const std::atomic<bool>& stop);
  absl::Status Finish(const std::atomic<bool>& stop, const std::string& reason);
  std::string StopReason(const std::atomic<bool>& stop) const {
    return stop ? "" : exits_.Reason(step_, recorder_.elapsed_s());
  }

  const Options options_;
  const TrainerSection& trainer_;
  Trainable& trainable_;
  WeightPublisher& publisher_;
  const BlobStore blobs_;
  RecoveryPlan plan_;
  const int64_t epoch_;
  const std::vector<PromptRow> train_rows_;

  Events events_;
  Failure failure_;
  RedisHealth health_;
  BackgroundWriter writer_;
  const BatchPlan batches_;
  GroupBook book_;
  Evaluation evaluation_;
  CollectionWindow window_;
  StepRecorder recorder_;
  ExitRules exits_;
  Incidents incidents_;
  Starvation starvation_;
  Counter starved_;
  Gauge paused_;
  PromptSource source_;
  Dispatcher dispatcher_;
  Collector collector_;
  LoopJournal journal_;
  Checkpointer checkpointer_;
  StateBoard board_;
  PublishThread publish_;

  // The learner's thread only.
  int64_t step_ = 0;
  int consecutive_skips_ = 0;
  double batch_wait_s_ = 0;
};

RunLoop::Impl::Impl(Options options, LoopParts parts, Trainable& trainable,
                    std::vector<PromptRow> train_rows, std::vector<PromptRow> eval_rows,
                    WeightPublisher& publisher, MetricsRegistry& metrics)
    : options_(std::move(options)),
      trainer_(options_.config.trainer),
      trainable_(trainable),
      publisher_(publisher),
      blobs_(std::move(parts.blobs)),
      plan_(std::move(parts.plan)),
      epoch_(parts.epoch),
      train_rows_(std::move(train_rows)),
      events_(options_.emit),
      health_(metrics.MakeCounter("tramontane_redis_unavailable_seconds_total")),
      writer_(failure_),
      batches_(PlanBatches(options_.config)),
      book_({.groups_per_step = batches_,
             .max_staleness_versions = trainer_.max_staleness_versions,
             .max_steps = options_.config.run.max_steps,
             .version = plan_.step,
             .tokens_per_step = trainer_.tokens_per_step},
            plan_.ledger.frontier),
      evaluation_(std::move(eval_rows), options_.run_id, epoch_, options_.config.rollout),
      window_(metrics),
      recorder_({.run_dir = options_.run_dir,
                 .run_id = options_.run_id,
                 .max_steps = options_.config.run.max_steps,
                 .elapsed_before_s = plan_.ledger.elapsed_s,
                 .tokens_before = plan_.ledger.generated_tokens,
                 .recent_rewards = plan_.ledger.recent_rewards},
                events_, writer_, metrics),
      exits_(options_.config.run, plan_.ledger.exits),
      incidents_(options_.config.bands, options_.run_dir, blobs_, events_, metrics),
      starvation_(trainer_),
      starved_(metrics.MakeCounter("tramontane_starved_total")),
      paused_(metrics.MakeGauge("tramontane_trainer_paused")),
      source_(
          train_rows_, [this](int64_t step) { return ConfigAtStep(options_.config, step).prompts; },
          options_.config.run.seed, options_.config.data.shuffle),
      dispatcher_(
          {.run_id = options_.run_id,
           .seed = options_.config.run.seed,
           .epoch = epoch_,
           .rollout = [this](int64_t step) { return ConfigAtStep(options_.config, step).rollout; },
           .reward_weights =
               [this](int64_t step) { return RewardWeightsAtStep(options_.config, step); },
           .wants_routes = trainer_.router_replay,
           .high_water = int64_t{2} * (trainer_.max_staleness_versions + 1) * batches_.largest()},
          train_rows_, source_, std::move(parts.dispatcher_queue), blobs_, book_, evaluation_,
          health_, failure_, metrics),
      collector_({.run_id = options_.run_id,
                  .lease_s = options_.config.generator.lease_s,
                  .filter = [this](int64_t step) { return FilterAtStep(options_.config, step); },
                  .check = [this](const Group& group) { return trainable_.Check(group); }},
                 std::move(parts.collector_queue), blobs_, book_, evaluation_, dispatcher_, window_,
                 health_, failure_, metrics),
      journal_(std::move(parts.journal), epoch_, SamplesOf(options_.config.rollout), book_, source_,
               dispatcher_, window_, metrics),
      checkpointer_(epoch_, options_.restored ? plan_.step : -1, trainable_, journal_, book_,
                    recorder_, exits_, blobs_, writer_, events_, metrics),
      board_(epoch_, book_, recorder_),
      publish_(publisher, failure_),
      step_(plan_.step) {
  source_.Restore(journal_.records());
}

absl::Status RunLoop::Impl::Run(const std::atomic<bool>& stop) {
  board_.Set(step_, "replaying");
  RETURN_IF_ERROR(Replay(stop));
  if (stop) return absl::OkStatus();
  // Without a checkpoint a resumed run would have to find its starting weights by itself.
  if (checkpointer_.saved_step() < 0) RETURN_IF_ERROR(checkpointer_.Save(step_));
  if (options_.resume) {
    writer_.Do("sweep of orphaned blobs", [this] {
      return SweepOrphanedBlobs(options_.config.redis, options_.run_id, plan_.needed_blobs, blobs_);
    });
  }
  Offer();
  RETURN_IF_ERROR(AwaitReceiver(stop, /*timeout_s=*/-1));

  std::string reason;
  absl::Status status;
  {
    std::jthread dispatching([this](std::stop_token token) { dispatcher_.Run(std::move(token)); });
    std::jthread collecting([this](std::stop_token token) { collector_.Run(std::move(token)); });
    recorder_.StartClock();
    if (step_ == 0) evaluation_.Start(0);
    dispatcher_.AllowTraining(true);
    status = Train(stop, reason);
    dispatcher_.AllowTraining(false);
    if (status.ok() && !reason.empty()) status = FinalEvaluation(stop);
  }
  if (!status.ok()) {
    board_.Set(step_, "failed", std::string(status.message()));
    return status;
  }
  return Finish(stop, reason);
}

absl::Status RunLoop::Impl::Replay(const std::atomic<bool>& stop) {
  if (!options_.resume) return absl::OkStatus();
  int64_t replayed = 0;
  for (const JournalRecord& batch : plan_.replay) {
    if (stop) return absl::OkStatus();
    const absl::StatusOr<std::vector<Group>> groups = LoadBatch(batch, blobs_, options_.config);
    const absl::Status replayed_step =
        groups.ok() ? trainable_.Step(*groups, batch.step).status() : groups.status();
    // Nobody can tell any more what was trained on, or the learner refuses it (and did so before,
    // so that nothing came of it): that part of the lineage is void.
    if (!groups.ok() || absl::IsInvalidArgument(replayed_step)) {
      LogError("replay_stopped", {{"step", batch.step}, {"status", replayed_step}});
      RETURN_IF_ERROR(journal_.AppendRollback(step_, std::string(replayed_step.message())));
      break;
    }
    RETURN_IF_ERROR(replayed_step);
    step_ = batch.step;
    ++replayed;
    journal_.KeepUntilCheckpoint(batch.blobs);
    board_.Set(step_, "replaying");
  }
  book_.StepDone(step_);
  const Json event = {
      {"event", "resumed"}, {"step", step_}, {"replayed", replayed}, {"epoch", epoch_}};
  recorder_.Append(event);
  events_.Emit(event);
  return absl::OkStatus();
}

void RunLoop::Impl::Offer() {
  std::vector<char> payload;
  WeightManifest manifest = trainable_.Snapshot(step_, payload);
  manifest.trainer_epoch = epoch_;
  publish_.Offer(std::move(manifest), std::move(payload));
}

absl::Status RunLoop::Impl::AwaitReceiver(const std::atomic<bool>& stop, double timeout_s) {
  WaitNotice notice(step_, board_, events_);
  const std::string what = "a generator that serves version " + std::to_string(step_);
  while (!stop && !failure_.failed()) {
    const absl::Status served = publisher_.WaitForReceiver(step_, 0.25);
    if (served.ok()) return served;
    notice.StillWaiting(what, served);
    if (timeout_s >= 0 && notice.seconds() > timeout_s) return served;
  }
  return failure_.Get();
}

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
  const auto since = SteadyClock::now();
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

absl::Status RunLoop::Impl::FinalEvaluation(const std::atomic<bool>& stop) {
  if (!evaluation_.enabled()) return absl::OkStatus();
  if (publish_.published_version() < step_) Offer();
  if (absl::Status served = AwaitReceiver(stop, kFinalPublishS); !served.ok()) {
    LogWarn("final_evaluation_skipped", {{"status", served}});
    return failure_.Get();
  }
  evaluation_.Start(step_);
  auto progress = SteadyClock::now();
  int64_t outstanding = evaluation_.outstanding();
  while (!stop && evaluation_.active()) {
    if (failure_.failed()) return failure_.Get();
    board_.Set(step_, "evaluating", std::to_string(outstanding) + " held-out answers",
               SecondsSince(progress));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    TakeEvalResults();
    if (const int64_t now = evaluation_.outstanding(); now != outstanding) {
      outstanding = now;
      progress = SteadyClock::now();
    }
    if (SecondsSince(progress) > kEvalStallS) {
      LogWarn("final_evaluation_given_up", {{"missing", outstanding}});
      break;
    }
  }
  TakeEvalResults();
  return absl::OkStatus();
}

absl::Status RunLoop::Impl::Finish(const std::atomic<bool>& stop, const std::string& reason) {
  const bool finished = !stop && !reason.empty();
  // A finished run leaves nothing outstanding; a stopped one will go on with what it issued.
  if (finished) book_.DropAll("run_finished");
  RETURN_IF_ERROR(journal_.AppendDrops(step_));
  dispatcher_.Drain(/*empty=*/finished);
  if (checkpointer_.saved_step() != step_ || finished) RETURN_IF_ERROR(checkpointer_.Save(step_));
  board_.Set(step_, finished ? "finished" : "stopped");
  Json event = {{"event", finished ? "finished" : "stopped"},
                {"reason", finished ? reason : "told to stop"},
                {"step", step_},
                {"epoch", epoch_},
                {"elapsed_s", recorder_.elapsed_s()},
                {"reward_10", recorder_.Reward10()},
                {"tokens_per_second", recorder_.TokensPerSecondOverall()},
                {"generated_tokens", recorder_.generated_tokens()},
                {"staleness_mean", recorder_.mean_staleness()},
                {"logprob_gap_max", recorder_.largest_logprob_gap()},
                {"versions_published", publish_.published_count()}};
  if (recorder_.first_eval_accuracy()) event["accuracy_before"] = *recorder_.first_eval_accuracy();
  if (recorder_.eval_accuracy()) event["accuracy_after"] = *recorder_.eval_accuracy();
  recorder_.Append(event);
  // A run is finished when what people look at is on the disk, too.
  RETURN_IF_ERROR(writer_.Flush());
  events_.Emit(event);
  return absl::OkStatus();
}

RunLoop::RunLoop(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RunLoop::~RunLoop() = default;

absl::StatusOr<std::unique_ptr<RunLoop>> RunLoop::Create(Options options, Trainable& trainable,
                                                         std::vector<PromptRow> train_rows,
                                                         std::vector<PromptRow> eval_rows,
                                                         WeightPublisher& publisher,
                                                         MetricsRegistry& metrics) {
  if (train_rows.empty()) return absl::InvalidArgumentError("data.train: no rows");
  RETURN_IF_ERROR(PromptSource::Check(train_rows, options.config.prompts));
  ASSIGN_OR_RETURN(LoopParts parts, PrepareLoop(options));
  return std::unique_ptr<RunLoop>(new RunLoop(
      std::make_unique<Impl>(std::move(options), std::move(parts), trainable, std::move(train_rows),
                             std::move(eval_rows), publisher, metrics)));
}

absl::Status RunLoop::Run(const std::atomic<bool>& stop) { return impl_->Run(stop); }
int64_t RunLoop::epoch() const { return impl_->epoch(); }
LoopState RunLoop::state() const { return impl_->state(); }

}  // namespace tramontane
