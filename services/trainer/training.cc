#include "services/trainer/training.h"

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
#include "common/log.h"
#include "common/metrics.h"
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
#include "services/trainer/sft_stage.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"
#include "trainer/learner_trainable.h"
#include "trainer/ranks/trainer_ranks.h"
#include "trainer/run_loop.h"

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
    if (!options_.sft_only) {
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
    service_.emplace(kProcess, identity, *publisher_);
    runner_.set_identity(identity);
    runner_.AddService(&*service_, v1::Trainer::service_full_name());
    runner_.OnState([this] { return service_->Status(); });
    return absl::OkStatus();
  }

  // The stages. Cancelled: told to stop before the run loop stood.
  absl::Status Run() {
    RETURN_IF_ERROR(RunSft());
    if (options_.sft_only) return absl::OkStatus();
    service_->SetPhase("loading");
    RunLoop::Options loop_options{.config = config_,
                                  .run_dir = options_.run_dir,
                                  .run_id = config_.run.name,
                                  .resume = options_.resume,
                                  .restored = std::nullopt,
                                  .emit = [this](const Json& event) { events_.Emit(event); }};
    std::unique_ptr<Learner> learner;
    ASSIGN_OR_RETURN(learner, MakeLearner(loop_options.restored));
    LearnerTrainable trainable(*learner, CheckpointsDir(options_.run_dir), base_dir_,
                               config_.trainer.checkpoint_keep_last);
    std::unique_ptr<RunLoop> loop;
    ASSIGN_OR_RETURN(loop,
                     RunLoop::Create(std::move(loop_options), trainable, std::move(train_rows_),
                                     std::move(eval_rows_), *publisher_, metrics_));
    service_->SetLoop([&loop] { return loop->state(); });
    const absl::Status status = loop->Run(runner_.stop());
    service_->SetLoop(nullptr);
    service_->SetPhase("stopping");
    return status;
  }

 private:
  absl::StatusOr<std::vector<PromptRow>> LoadRows(const std::string& path) const {
    return LoadPrompts(path, config_.data, *text_.tokenizer, text_.chat_template.get(),
                       [this](const PromptRow& row) { return CheckVerifierOf(row, config_); });
  }

  // Two runs of one name in different folders must not share it.
  std::string SharedMemoryPrefix() const {
    std::error_code ignored;
    const std::string where = std::filesystem::absolute(options_.run_dir, ignored).string();
    return "tramontane." + Sha256Hex(where + "\n" + config_.run.name).substr(0, 16);
  }

  absl::Status RunSft() {
    if (!HasSftStage(config_)) return absl::OkStatus();
    service_->SetPhase("sft");
    return RunSftStage({.config = config_,
                        .text = text_,
                        .base_dir = base_dir_,
                        .out_dir = SftModelDir(options_.run_dir),
                        .ranks = ranks_.group(),
                        .emit = [this](const Json& event) { events_.Emit(event); }},
                       metrics_, runner_.stop());
  }

  // From the newest valid checkpoint when resuming, else from what the run starts with.
  absl::StatusOr<std::unique_ptr<Learner>> MakeLearner(std::optional<CheckpointState>& restored) {
    const std::string start_dir = HasSftStage(config_) ? SftModelDir(options_.run_dir) : base_dir_;
    std::string model_dir = start_dir;
    std::optional<LoadedCheckpoint> checkpoint;
    if (options_.resume) {
      absl::StatusOr<LoadedCheckpoint> found =
          FindNewestCheckpoint(CheckpointsDir(options_.run_dir));
      if (found.ok()) {
        checkpoint = *std::move(found);
        // Adapters go on top of what they were trained on.
        if (config_.lora.rank == 0) model_dir = checkpoint->hf_dir;
      } else if (!absl::IsNotFound(found.status())) {
        return found.status();
      }
    }
    std::shared_ptr<Transformer> model;
    ASSIGN_OR_RETURN(model, LoadModelDir(model_dir));
    RunConfig config = config_;
    config.model = ModelSection();
    config.model.path = start_dir;
    std::unique_ptr<Learner> learner;
    ASSIGN_OR_RETURN(learner, Learner::Create(config, std::move(model), metrics_, ranks_.group()));
    if (checkpoint.has_value()) {
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
