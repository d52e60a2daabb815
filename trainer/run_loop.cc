#include "trainer/run_loop.h"

#include <chrono>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "trainer/loop/orphan_sweep.h"
#include "trainer/loop/waiting.h"
#include "trainer/run_loop_impl.h"

namespace tramontane {
namespace {

constexpr double kEvalStallS = 120;
constexpr double kFinalPublishS = 60;

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

absl::Status RunLoop::Impl::FinalEvaluation(const std::atomic<bool>& stop) {
  if (!evaluation_.enabled()) return absl::OkStatus();
  if (publish_.published_version() < step_) Offer();
  if (absl::Status served = AwaitReceiver(stop, kFinalPublishS); !served.ok()) {
    LogWarn("final_evaluation_skipped", {{"status", served}});
    return failure_.Get();
  }
  evaluation_.Start(step_);
  auto progress = std::chrono::steady_clock::now();
  int64_t outstanding = evaluation_.outstanding();
  while (!stop && evaluation_.active()) {
    if (failure_.failed()) return failure_.Get();
    board_.Set(step_, "evaluating", std::to_string(outstanding) + " held-out answers",
               SecondsSince(progress));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    TakeEvalResults();
    if (const int64_t now = evaluation_.outstanding(); now != outstanding) {
      outstanding = now;
      progress = std::chrono::steady_clock::now();
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
