#include "services/trainer/supervised_stage.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/status.h"
#include "data/dataset.h"
#include "model/model_dir.h"
#include "services/trainer/length_pupil.h"
#include "services/trainer/stage_rows.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

// Endless passes over the examples, each in a new order drawn from the seed.
class ExampleOrder {
 public:
  ExampleOrder(size_t count, uint64_t seed) : order_(count), next_(count), random_(seed) {
    std::iota(order_.begin(), order_.end(), size_t{0});
  }

  size_t Next() {
    if (next_ == order_.size()) {
      // Written out: the standard leaves open what std::shuffle draws.
      for (size_t i = order_.size() - 1; i > 0; --i)
        std::swap(order_[i], order_[random_() % (i + 1)]);
      next_ = 0;
    }
    return order_[next_++];
  }

 private:
  std::vector<size_t> order_;
  size_t next_;
  std::mt19937_64 random_;
};

// The policy, by the rows' kind.
class PolicyPupil final : public Pupil {
 public:
  // From a checkpoint, if there is one.
  static absl::StatusOr<std::unique_ptr<Pupil>> Make(const SupervisedStage& stage,
                                                     const std::optional<LoadedCheckpoint>& from,
                                                     MetricsRegistry& metrics) {
    auto pupil = std::unique_ptr<PolicyPupil>(new PolicyPupil(stage.base_dir));
    RETURN_IF_ERROR(pupil->LoadRows(stage));
    // Adapters go on top of what they were trained on.
    const bool whole = from && stage.config.lora.rank == 0;
    std::shared_ptr<Transformer> model;
    ASSIGN_OR_RETURN(model, LoadModelDir(whole ? from->hf_dir : stage.base_dir));
    RunConfig config = stage.config;
    config.model = ModelSection();
    config.model.path = stage.base_dir;
    ASSIGN_OR_RETURN(pupil->learner_,
                     Learner::CreateForSft(config, std::move(model), metrics, stage.ranks));
    if (from) RETURN_IF_ERROR(pupil->learner_->LoadState(from->dir));
    return std::unique_ptr<Pupil>(std::move(pupil));
  }

  size_t rows() const override { return examples_.size() + pairs_.size(); }

  absl::StatusOr<StepReport> Step(const std::vector<size_t>& drawn, int64_t step) override {
    if (examples_.empty()) return learner_->DpoStep(Those(pairs_, drawn), step);
    return learner_->SftStep(Those(examples_, drawn), step);
  }

  absl::Status SaveCheckpoint(const std::string& checkpoints_dir,
                              const CheckpointState& state) const override {
    return tramontane::SaveCheckpoint(checkpoints_dir, *learner_, base_dir_, state,
                                      kStageCheckpoints);
  }

  absl::Status SaveResult(const std::string& out_dir) const override {
    return SaveModelDir(std::as_const(*learner_).model(), base_dir_, out_dir);
  }

 private:
  explicit PolicyPupil(std::string base_dir) : base_dir_(std::move(base_dir)) {}

  absl::Status LoadRows(const SupervisedStage& stage) {
    ModelConfig model;
    ASSIGN_OR_RETURN(model, ModelForRows(stage));
    const std::string& path = stage.config.sft.data;
    const Tokenizer& tokenizer = *stage.text.tokenizer;
    const ChatTemplate* chat_template = stage.text.chat_template.get();
    const int32_t eos = model.eos_token_ids.front();
    if (stage.config.run.kind == "dpo") {
      ASSIGN_OR_RETURN(pairs_, LoadPreferencePairs(path, tokenizer, chat_template, eos));
      return CheckIds(pairs_, path, model.vocab_size);
    }
    ASSIGN_OR_RETURN(examples_, LoadSftExamples(path, tokenizer, chat_template, eos));
    return CheckIds(examples_, path, model.vocab_size);
  }

  const std::string base_dir_;
  std::vector<SftExample> examples_;  // one of the two is empty
  std::vector<PreferencePair> pairs_;
  std::unique_ptr<Learner> learner_;
};

// An RL run's cold start is sft.
std::string KindOf(const RunConfig& config) {
  return config.run.kind == "rl" ? "sft" : config.run.kind;
}

Json StepEvent(const std::string& kind, const StepReport& report, int64_t steps,
               double elapsed_s) {
  Json event = {{"event", "sft_step"},
                {"kind", kind},
                {"step", report.step},
                {"steps", steps},
                {"loss", report.loss},
                {"grad_norm", report.grad_norm},
                {"learning_rate", report.learning_rate},
                {"skipped", report.skipped},
                {"seconds", report.seconds},
                {"elapsed_s", elapsed_s}};
  for (const auto& [name, value] : report.metrics) {
    if (name == "kl" || name.starts_with("dpo_") || name.starts_with("length_"))
      event[name] = value;
  }
  return event;
}

// The steps of one stage and its checkpoints.
class Course {
 public:
  Course(const SupervisedStage& stage, MetricsRegistry& metrics)
      : stage_(stage),
        config_(stage.config),
        metrics_(metrics),
        checkpoints_dir_(stage.out_dir + ".checkpoints") {}

  absl::Status Run(const std::atomic<bool>& stop) {
    RETURN_IF_ERROR(Prepare());
    ExampleOrder order(pupil_->rows(), config_.run.seed);
    std::vector<size_t> drawn(static_cast<size_t>(config_.sft.examples_per_step));
    const auto draw = [&] {
      for (size_t& i : drawn) i = order.Next();
    };
    for (int64_t step = 1; step <= done_; ++step) draw();
    const auto start = std::chrono::steady_clock::now();
    int64_t nonfinite = 0;
    stage_.progress(done_, config_.sft.steps);
    while (done_ < config_.sft.steps) {
      if (stop) {
        RETURN_IF_ERROR(Save());
        return absl::CancelledError("stopped in a supervised stage");
      }
      draw();
      StepReport report;
      ASSIGN_OR_RETURN(report, pupil_->Step(drawn, done_ + 1));
      ++done_;
      stage_.emit(StepEvent(KindOf(config_), report, config_.sft.steps, SecondsSince(start)));
      stage_.progress(done_, config_.sft.steps);
      nonfinite = report.nonfinite ? nonfinite + 1 : 0;
      if (nonfinite > config_.trainer.max_nonfinite_steps) {
        return absl::InternalError(std::to_string(nonfinite) +
                                   " steps in a row were not finite: " + report.skip_reason);
      }
      if (done_ % config_.trainer.checkpoint_interval_steps == 0 && done_ < config_.sft.steps)
        RETURN_IF_ERROR(Save());
    }
    RETURN_IF_ERROR(pupil_->SaveResult(stage_.out_dir));
    std::error_code ignored;  // what is left behind is only room
    std::filesystem::remove_all(checkpoints_dir_, ignored);
    return absl::OkStatus();
  }

 private:
  // Rows, and who learns from them, from the newest checkpoint or from the model to start from.
  absl::Status Prepare() {
    absl::StatusOr<LoadedCheckpoint> found = FindNewestCheckpoint(checkpoints_dir_);
    if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
    std::optional<LoadedCheckpoint> from;
    if (found.ok()) from = *std::move(found);
    const auto make =
        config_.run.kind == "length_predictor" ? &MakeLengthPupil : &PolicyPupil::Make;
    ASSIGN_OR_RETURN(pupil_, make(stage_, from, metrics_));
    ASSIGN_OR_RETURN(const std::string text, ReadFile(config_.sft.data));
    cursor_ = {{"kind", KindOf(config_)},
               {"rows", pupil_->rows()},
               {"sha256", Sha256Hex(text)},
               {"examples_per_step", config_.sft.examples_per_step},
               {"seed", config_.run.seed}};
    if (from && from->state.ledger != cursor_) {
      return absl::FailedPreconditionError(
          from->dir + ": was made with other rows, another seed or another examples_per_step (" +
          from->state.ledger.dump() + ", now " + cursor_.dump() + ")");
    }
    if (!from) return absl::OkStatus();
    done_ = from->state.step;
    stage_.emit({{"event", "resumed"}, {"kind", KindOf(config_)}, {"step", done_}});
    return absl::OkStatus();
  }

  absl::Status Save() const {
    return pupil_->SaveCheckpoint(checkpoints_dir_,
                                  {.step = done_, .trainer_epoch = 0, .ledger = cursor_});
  }

  const SupervisedStage& stage_;
  const RunConfig& config_;
  MetricsRegistry& metrics_;
  const std::string checkpoints_dir_;
  Json cursor_;  // what the order of rows depends on
  std::unique_ptr<Pupil> pupil_;
  int64_t done_ = 0;  // steps
};

}  // namespace

bool HasColdStart(const RunConfig& config) {
  return config.run.kind == "rl" && !config.sft.data.empty() && config.sft.steps > 0;
}

absl::Status RunSupervisedStage(const SupervisedStage& stage, MetricsRegistry& metrics,
                                const std::atomic<bool>& stop) {
  std::error_code ignored;
  if (std::filesystem::exists(stage.out_dir, ignored)) {
    LogInfo("stage_done_already", {{"model", stage.out_dir}});
    return absl::OkStatus();
  }
  return Course(stage, metrics).Run(stop);
}

}  // namespace tramontane
