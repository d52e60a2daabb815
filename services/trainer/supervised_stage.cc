#include "services/trainer/supervised_stage.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/file_stamp.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "data/dataset.h"
#include "model/model_dir.h"
#include "services/trainer/length_pupil.h"
#include "services/trainer/stage_rows.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"
#include "trainer/loop/held_out_exit.h"

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
    ASSIGN_OR_RETURN(pupil->rows_, LoadRows(stage, stage.config.sft.data));
    if (const std::string& held_out = stage.config.sft.eval_data; !held_out.empty()) {
      ASSIGN_OR_RETURN(pupil->held_out_, LoadRows(stage, held_out));
    }
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

  size_t rows() const override { return rows_.size(); }
  size_t held_out_rows() const override { return held_out_.size(); }

  absl::StatusOr<StepReport> Step(const std::vector<size_t>& drawn, int64_t step) override {
    if (rows_.examples.empty()) return learner_->DpoStep(Those(rows_.pairs, drawn), step);
    return learner_->SftStep(Those(rows_.examples, drawn), step);
  }

  absl::StatusOr<double> HeldOutLoss() override {
    return held_out_.examples.empty() ? learner_->HeldOutLoss(held_out_.pairs)
                                      : learner_->HeldOutLoss(held_out_.examples);
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

  struct Rows {
    std::vector<SftExample> examples;  // one of the two is empty
    std::vector<PreferencePair> pairs;
    size_t size() const { return examples.size() + pairs.size(); }
  };

  static absl::StatusOr<Rows> LoadRows(const SupervisedStage& stage, const std::string& path) {
    ModelConfig model;
    ASSIGN_OR_RETURN(model, ModelForRows(stage));
    const Tokenizer& tokenizer = *stage.text.tokenizer;
    const ChatTemplate* chat_template = stage.text.chat_template.get();
    const int32_t eos = model.eos_token_ids.front();
    Rows rows;
    if (stage.config.run.kind == "dpo") {
      ASSIGN_OR_RETURN(rows.pairs, LoadPreferencePairs(path, tokenizer, chat_template, eos));
      RETURN_IF_ERROR(CheckIds(rows.pairs, path, model.vocab_size));
    } else {
      ASSIGN_OR_RETURN(rows.examples, LoadSftExamples(path, tokenizer, chat_template, eos));
      RETURN_IF_ERROR(CheckIds(rows.examples, path, model.vocab_size));
    }
    return rows;
  }

  const std::string base_dir_;
  Rows rows_, held_out_;
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

std::string EndPath(const SupervisedStage& stage) { return stage.out_dir + ".end.json"; }

// How a stage ended whose model is there.
SupervisedEnd EndOf(const SupervisedStage& stage) {
  SupervisedEnd end{"steps", stage.config.sft.steps};
  const absl::StatusOr<std::string> text = ReadFile(EndPath(stage));
  if (!text.ok()) return end;  // of a build that knew no other end
  const Json saved = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!saved.is_object()) return end;
  end.reason = saved.value("reason", end.reason);
  end.step = saved.value("step", end.step);
  return end;
}

// The steps of one stage and its checkpoints.
class Course {
 public:
  Course(const SupervisedStage& stage, MetricsRegistry& metrics)
      : stage_(stage),
        config_(stage.config),
        metrics_(metrics),
        checkpoints_dir_(stage.out_dir + ".checkpoints") {}

  absl::StatusOr<SupervisedEnd> Run(const std::atomic<bool>& stop) {
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
    while (done_ < config_.sft.steps && exit_->Reason().empty()) {
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
      RETURN_IF_ERROR(Evaluate());
      if (done_ % config_.trainer.checkpoint_interval_steps == 0 && done_ < config_.sft.steps)
        RETURN_IF_ERROR(Save());
    }
    const std::string reason = exit_->Reason();
    SupervisedEnd end{reason.empty() ? "steps" : reason, done_};
    RETURN_IF_ERROR(SaveEnd(end));
    RETURN_IF_ERROR(pupil_->SaveResult(stage_.out_dir));
    std::error_code ignored;  // what is left behind is only room
    std::filesystem::remove_all(checkpoints_dir_, ignored);
    return end;
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
    ASSIGN_OR_RETURN(const FileStamp stamp, StampFile(config_.sft.data));
    cursor_ = {{"kind", KindOf(config_)},
               {"rows", pupil_->rows()},
               {"sha256", stamp.sha256},
               {"examples_per_step", config_.sft.examples_per_step},
               {"seed", config_.run.seed}};
    exit_.emplace(config_.sft, Json());
    if (!from) return absl::OkStatus();
    Json ledger = from->state.ledger;
    exit_.emplace(config_.sft, ledger.value("exit", Json()));
    ledger.erase("exit");
    if (ledger != cursor_) {
      return absl::FailedPreconditionError(
          from->dir + ": was made with other rows, another seed or another examples_per_step (" +
          ledger.dump() + ", now " + cursor_.dump() + ")");
    }
    done_ = from->state.step;
    stage_.emit({{"event", "resumed"}, {"kind", KindOf(config_)}, {"step", done_}});
    return absl::OkStatus();
  }

  // The loss of the rows that are held out, in its interval and after the last step.
  absl::Status Evaluate() {
    if (pupil_->held_out_rows() == 0) return absl::OkStatus();
    if (done_ % config_.sft.eval_interval_steps != 0 && done_ < config_.sft.steps)
      return absl::OkStatus();
    const auto start = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(const double loss, pupil_->HeldOutLoss());
    if (!std::isfinite(loss)) return absl::InternalError("the held-out loss is not finite");
    exit_->Evaluated(loss);
    metrics_.MakeGauge("tramontane_sft_held_out_loss").Set(loss);
    stage_.emit({{"event", "sft_eval"},
                 {"kind", KindOf(config_)},
                 {"step", done_},
                 {"loss", loss},
                 {"least", *exit_->least()},
                 {"stale_evaluations", exit_->stale_evaluations()},
                 {"rows", pupil_->held_out_rows()},
                 {"seconds", SecondsSince(start)}});
    return absl::OkStatus();
  }

  absl::Status Save() const {
    Json ledger = cursor_;
    if (pupil_->held_out_rows() > 0) ledger["exit"] = exit_->ToJson();
    return pupil_->SaveCheckpoint(checkpoints_dir_,
                                  {.step = done_, .trainer_epoch = 0, .ledger = std::move(ledger)});
  }

  // Before the model, whose folder says that the stage is done.
  absl::Status SaveEnd(const SupervisedEnd& end) const {
    RETURN_IF_ERROR(MakeDirs(std::filesystem::path(stage_.out_dir).parent_path().string()));
    return WriteFileAtomic(EndPath(stage_),
                           Json({{"reason", end.reason}, {"step", end.step}}).dump() + "\n");
  }

  const SupervisedStage& stage_;
  const RunConfig& config_;
  MetricsRegistry& metrics_;
  const std::string checkpoints_dir_;
  Json cursor_;  // what the order of rows depends on
  std::unique_ptr<Pupil> pupil_;
  std::optional<HeldOutExit> exit_;
  int64_t done_ = 0;  // steps
};

}  // namespace

bool HasColdStart(const RunConfig& config) {
  return config.run.kind == "rl" && !config.sft.data.empty() && config.sft.steps > 0;
}

absl::StatusOr<SupervisedEnd> RunSupervisedStage(const SupervisedStage& stage,
                                                 MetricsRegistry& metrics,
                                                 const std::atomic<bool>& stop) {
  std::error_code ignored;
  if (std::filesystem::exists(stage.out_dir, ignored)) {
    LogInfo("stage_done_already", {{"model", stage.out_dir}});
    return EndOf(stage);
  }
  return Course(stage, metrics).Run(stop);
}

}  // namespace tramontane
