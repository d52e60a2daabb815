#include "services/trainer/training.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/exit_codes.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/host_port.h"
#include "common/kind_rules.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/stages.h"
#include "common/status.h"
#include "data/dataset.h"
#include "model/init.h"
#include "model/model_dir.h"
#include "services/host_id.h"
#include "services/run_files.h"
#include "services/runner.h"
#include "services/trainer/events.h"
#include "services/trainer/publisher.h"
#include "services/trainer/service.h"
#include "services/trainer/supervised_stage.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/merge.h"
#include "trainer/learner_trainable.h"
#include "trainer/ranks/trainer_ranks.h"
#include "trainer/run_loop.h"
#include "trainer/select_trainable.h"

namespace tramontane {
namespace {

constexpr char kProcess[] = "trainer";
// The step under way is finished and a checkpoint written before the process ends.
constexpr double kDrainDeadlineS = 120;

// A configuration without a model path starts from random weights, made once per run.
absl::Status EnsureBaseModel(const RunConfig& config, const std::string& base_dir) {
  std::error_code ignored;
  if (!config.model.path.empty() || std::filesystem::exists(base_dir, ignored)) {
    return absl::OkStatus();
  }
  // Renamed into place when complete, so that generators and a second start never see a part.
  const std::string temporary = base_dir + ".tmp";
  std::filesystem::remove_all(temporary, ignored);
  RETURN_IF_ERROR(MakeDirs(temporary));
  absl::Status status =
      InitModel(Json(config.model.init), config.model.init_tokenizer, temporary, config.run.seed)
          .status();
  if (status.ok() && std::rename(temporary.c_str(), base_dir.c_str()) != 0) {
    status = ErrnoStatus(errno, "rename to " + base_dir);
  }
  if (!status.ok()) {
    std::filesystem::remove_all(temporary, ignored);
    return status;
  }
  return FsyncDir(std::filesystem::path(base_dir).parent_path().string());
}

// Members are made in this order and end in the opposite one.
class TrainerProcess {
 public:
  TrainerProcess(const TrainingOptions& options, RunConfig config, ServiceRunner& runner,
                 MetricsRegistry& metrics)
      : options_(options),
        config_(std::move(config)),
        base_dir_(BaseModelDir(config_, options_.run_dir)),
        runner_(runner),
        metrics_(metrics) {}

  // Ranks were lost: what this process was doing can be gone on with by another.
  bool lost_ranks() const { return ranks_.lost(); }

  // What can be wrong with the input is found here, before anybody is told that we listen.
  absl::Status Build() {
    RETURN_IF_ERROR(EnsureBaseModel(config_, base_dir_));
    ASSIGN_OR_RETURN(text_, LoadTextTools(base_dir_));
    if (!RunsAlone(config_)) {
      ASSIGN_OR_RETURN(train_rows_, LoadRows(config_.data.train));
      if (!config_.data.eval.empty()) {
        ASSIGN_OR_RETURN(eval_rows_, LoadRows(config_.data.eval));
      }
    }
    ASSIGN_OR_RETURN(ranks_, TrainerRanks::Start(config_.trainer));
    const Identity identity = MakeIdentity(config_.run.name, text_);
    ASSIGN_OR_RETURN(publisher_, Publisher::Create({.weights = config_.weights,
                                                    .identity = identity,
                                                    .shared_memory_prefix = SharedMemoryPrefix(),
                                                    .tcp_bind = HostOf(config_.trainer.bind) + ":0",
                                                    .advertise_host = options_.advertise_host,
                                                    .host_id = HostId()},
                                                   metrics_));
    service_.emplace(kProcess, identity, config_.run.kind, *publisher_);
    runner_.set_identity(identity);
    runner_.AddService(&*service_, v1::Trainer::service_full_name());
    runner_.OnState([this] { return service_->Status(); });
    return absl::OkStatus();
  }

  // By run.kind. Cancelled: told to stop before it was done, and not by the run loop.
  absl::Status Run() {
    ShowStage();
    if (config_.run.kind == "merge") return RunMerge();
    const std::string out_dir = run_dir() + "/" + config_.run.kind + "/hf";
    if (IsSupervised(config_)) {
      ASSIGN_OR_RETURN(const SupervisedEnd end, RunSupervised(out_dir));
      return Finished(end.reason, end.step, {{"model", out_dir}});
    }
    if (HasColdStart(config_)) RETURN_IF_ERROR(RunSupervised(SftModelDir(run_dir())).status());
    service_->SetPhase("loading");
    return config_.run.kind == "reject_sample" ? RunSelection() : RunRl();
  }

 private:
  const std::string& run_dir() const { return options_.run_dir; }

  absl::StatusOr<std::vector<PromptRow>> LoadRows(const std::string& path) const {
    return LoadPrompts(path, config_.data, *text_.tokenizer, text_.chat_template.get(),
                       [this](const PromptRow& row) { return CheckVerifierOf(row, config_); });
  }

  // Two runs of one name in different folders must not share it.
  std::string SharedMemoryPrefix() const {
    std::error_code ignored;
    const std::string where = std::filesystem::absolute(run_dir(), ignored).string();
    return "tramontane." + Sha256Hex(where + "\n" + config_.run.name).substr(0, 16);
  }

  void ShowStage() {
    metrics_.MakeGauge("tramontane_stage", {{"kind", config_.run.kind}})
        .Set(std::max(1, config_.run.stage_number));
    metrics_.MakeGauge("tramontane_stages").Set(std::max(1, config_.run.stage_count));
  }

  void ShowSteps(int64_t steps) {
    metrics_.MakeGauge("tramontane_stage_steps").Set(static_cast<double>(steps));
  }

  // The output's record comes last (common/stages.h): what it names is on the disk.
  absl::Status Finished(const std::string& reason, int64_t step, Json output) {
    output.update({{"kind", config_.run.kind}, {"reason", reason}, {"step", step}});
    RETURN_IF_ERROR(WriteFileAtomic(StageOutputPath(run_dir()), output.dump(2) + "\n"));
    if (!RunsAlone(config_)) return absl::OkStatus();  // the loop has said so
    output["event"] = "finished";
    events_.Emit(output);
    return absl::OkStatus();
  }

  absl::StatusOr<SupervisedEnd> RunSupervised(const std::string& out_dir) {
    service_->SetPhase(config_.run.kind == "rl" ? "sft" : config_.run.kind);
    ShowSteps(config_.sft.steps);
    return RunSupervisedStage(
        {.config = config_,
         .text = text_,
         .base_dir = base_dir_,
         .out_dir = out_dir,
         .ranks = ranks_.group(),
         .emit = [this](const Json& event) { events_.Emit(event); },
         .progress = [this](int64_t step, int64_t steps) { service_->SetProgress(step, steps); }},
        metrics_, runner_.stop());
  }

  absl::Status RunMerge() {
    service_->SetPhase("merge");
    const std::string out_dir = run_dir() + "/merge/hf";
    std::error_code ignored;
    if (!std::filesystem::exists(out_dir, ignored))
      RETURN_IF_ERROR(MergeModels(config_.merge, base_dir_, out_dir));
    return Finished("merged", 0, {{"model", out_dir}});
  }

  absl::Status RunRl() {
    std::optional<CheckpointState> restored;
    ASSIGN_OR_RETURN(const std::unique_ptr<Learner> learner, MakeLearner(restored));
    LearnerTrainable trainable(*learner, CheckpointsDir(run_dir()), base_dir_,
                               config_.trainer.checkpoint_keep_last);
    ASSIGN_OR_RETURN(const std::optional<int64_t> ended, RunSteps(config_, restored, trainable));
    if (!ended) return absl::OkStatus();
    return Finished(reason_, *ended,
                    {{"model", CheckpointsDir(run_dir()) + "/step_" + std::to_string(*ended) + "/hf"}});
  }

  absl::Status RunSelection() {
    std::optional<LoadedCheckpoint> checkpoint;
    ASSIGN_OR_RETURN(checkpoint, NewestCheckpoint());
    std::shared_ptr<Transformer> model;
    ASSIGN_OR_RETURN(model, LoadModelDir(base_dir_));
    SelectTrainable trainable({.run_dir = run_dir(),
                               .checkpoints_dir = CheckpointsDir(run_dir()),
                               .tokenizer = text_.tokenizer->sha256(),
                               .reject = config_.reject,
                               .probe_tolerance = config_.weights.probe_tolerance,
                               .keep_last = config_.trainer.checkpoint_keep_last},
                              std::move(model), metrics_);
    RunConfig config = config_;
    const auto groups = static_cast<int64_t>(train_rows_.size()) * config_.reject.passes;
    const int64_t per_step = config_.trainer.groups_per_step;
    config.run.max_steps = (groups + per_step - 1) / per_step;
    std::optional<CheckpointState> restored;
    if (checkpoint) restored = checkpoint->state;
    ASSIGN_OR_RETURN(const std::optional<int64_t> ended, RunSteps(config, restored, trainable));
    if (!ended) return absl::OkStatus();
    ASSIGN_OR_RETURN(const int64_t rows, trainable.Gather(*ended));
    return Finished(reason_, *ended, {{"rows", trainable.rows_path()}, {"row_count", rows}});
  }

  // The run loop to its end. The last step; empty when it was told to stop.
  absl::StatusOr<std::optional<int64_t>> RunSteps(const RunConfig& config,
                                                  const std::optional<CheckpointState>& restored,
                                                  Trainable& trainable) {
    ShowSteps(config.run.max_steps);
    RunLoop::Options options{.config = config,
                             .run_dir = run_dir(),
                             .run_id = config_.run.name,
                             .resume = options_.resume,
                             .restored = restored,
                             .emit = [this](const Json& event) {
                               if (event["event"] == "finished") reason_ = event["reason"];
                               events_.Emit(event);
                             }};
    std::unique_ptr<RunLoop> loop;
    ASSIGN_OR_RETURN(loop, RunLoop::Create(std::move(options), trainable, std::move(train_rows_),
                                           std::move(eval_rows_), *publisher_, metrics_));
    service_->SetLoop([&loop] { return loop->state(); });
    const absl::Status status = loop->Run(runner_.stop());
    service_->SetLoop(nullptr);
    service_->SetPhase("stopping");
    RETURN_IF_ERROR(status);
    const LoopState state = loop->state();
    return state.phase == "finished" ? std::optional<int64_t>(state.step) : std::nullopt;
  }

  // Empty when the run starts afresh.
  absl::StatusOr<std::optional<LoadedCheckpoint>> NewestCheckpoint() const {
    std::optional<LoadedCheckpoint> newest;
    if (!options_.resume) return newest;
    absl::StatusOr<LoadedCheckpoint> found = FindNewestCheckpoint(CheckpointsDir(run_dir()));
    if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
    if (found.ok()) newest = *std::move(found);
    return newest;
  }

  // From the newest valid checkpoint when resuming, else from what the run starts with.
  absl::StatusOr<std::unique_ptr<Learner>> MakeLearner(std::optional<CheckpointState>& restored) {
    const std::string start_dir = HasColdStart(config_) ? SftModelDir(run_dir()) : base_dir_;
    std::string model_dir = start_dir;
    std::optional<LoadedCheckpoint> checkpoint;
    ASSIGN_OR_RETURN(checkpoint, NewestCheckpoint());
    // Adapters go on top of what they were trained on.
    if (checkpoint && config_.lora.rank == 0) model_dir = checkpoint->hf_dir;
    std::shared_ptr<Transformer> model;
    ASSIGN_OR_RETURN(model, LoadModelDir(model_dir));
    RunConfig config = config_;
    config.model = ModelSection();
    config.model.path = start_dir;
    std::unique_ptr<Learner> learner;
    ASSIGN_OR_RETURN(learner, Learner::Create(config, std::move(model), metrics_, ranks_.group()));
    if (checkpoint) {
      RETURN_IF_ERROR(learner->LoadState(checkpoint->dir));
      restored = checkpoint->state;
    }
    LogInfo("model_loaded", {{"from", model_dir}});
    return learner;
  }

  const TrainingOptions& options_;
  const RunConfig config_;
  const std::string base_dir_;
  ServiceRunner& runner_;
  MetricsRegistry& metrics_;
  EventLines events_;
  TextTools text_;
  std::vector<PromptRow> train_rows_, eval_rows_;
  TrainerRanks ranks_;
  std::unique_ptr<Publisher> publisher_;
  std::optional<TrainerService> service_;
  std::string reason_;  // why the run loop finished
};

}  // namespace

int RunTraining(const TrainingOptions& options) {
  InitLogging(kProcess);
  absl::StatusOr<RunConfig> config = LoadRunConfig(options.config_path);
  const std::string configured_bind = config.ok() ? config->trainer.bind : "";
  MetricsRegistry metrics;
  ServiceRunner runner({.process = kProcess,
                        .bind = options.bind.empty() ? configured_bind : options.bind,
                        .advertise_host = options.advertise_host,
                        .metrics_bind = config.ok() ? config->metrics.bind : "",
                        .ready_file = options.ready_file,
                        .exit_with_parent = options.exit_with_parent,
                        .drain_deadline_s = kDrainDeadlineS},
                       metrics);
  if (!config.ok()) return runner.Fail(config.status());
  TrainerProcess trainer(options, *std::move(config), runner, metrics);
  if (absl::Status status = trainer.Build(); !status.ok()) return runner.Fail(status);
  if (absl::Status status = runner.Start(); !status.ok()) return runner.Fail(status);
  const absl::Status status = trainer.Run();
  const bool stopped = absl::IsCancelled(status) && runner.stop();
  const bool lost_ranks = trainer.lost_ranks() &&
                          (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status));
  runner.RequestStop("training ended", stopped ? absl::OkStatus() : status);
  const int code = runner.Shutdown();
  return code != 0 && lost_ranks ? kTryAgainExit : code;
}

}  // namespace tramontane
