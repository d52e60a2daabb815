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
#include "model/model_config.h"
#include "model/model_dir.h"
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

// The rows of sft.data, by what they are, and a step on the next of them.
class Rows {
 public:
  static absl::StatusOr<Rows> Load(const SupervisedStage& stage) {
    ModelConfig model;
    ASSIGN_OR_RETURN(model, LoadModelConfig(stage.base_dir));
    if (model.eos_token_ids.empty()) {
      return absl::InvalidArgumentError(
          stage.base_dir + ": eos_token_id is not set, so completions would never end");
    }
    const std::string& path = stage.config.sft.data;
    const Tokenizer& tokenizer = *stage.text.tokenizer;
    const ChatTemplate* chat_template = stage.text.chat_template.get();
    const int32_t eos = model.eos_token_ids.front();
    Rows rows;
    if (stage.config.run.kind == "dpo") {
      ASSIGN_OR_RETURN(rows.pairs_, LoadPreferencePairs(path, tokenizer, chat_template, eos));
    } else {
      ASSIGN_OR_RETURN(rows.examples_, LoadSftExamples(path, tokenizer, chat_template, eos));
    }
    if (rows.LargestId() >= model.vocab_size) {
      return absl::InvalidArgumentError(path + ": holds token " + std::to_string(rows.LargestId()) +
                                        ", outside the model's vocabulary of " +
                                        std::to_string(model.vocab_size));
    }
    return rows;
  }

  size_t size() const { return examples_.size() + pairs_.size(); }

  absl::StatusOr<StepReport> Step(Learner& learner, const std::vector<size_t>& drawn,
                                  int64_t step) const {
    if (examples_.empty()) return learner.DpoStep(Those(pairs_, drawn), step);
    return learner.SftStep(Those(examples_, drawn), step);
  }

 private:
  int32_t LargestId() const {
    int32_t largest = -1;
    const auto look = [&](const std::vector<int32_t>& tokens) {
      for (int32_t token : tokens) largest = std::max(largest, token);
    };
    for (const SftExample& example : examples_)
      look(example.prompt_tokens), look(example.completion_tokens);
    for (const PreferencePair& pair : pairs_)
      look(pair.prompt_tokens), look(pair.chosen_tokens), look(pair.rejected_tokens);
    return largest;
  }

  template <class T>
  static std::vector<T> Those(const std::vector<T>& all, const std::vector<size_t>& drawn) {
    std::vector<T> some;
    for (size_t i : drawn) some.push_back(all[i]);
    return some;
  }

  std::vector<SftExample> examples_;  // one of the two is empty
  std::vector<PreferencePair> pairs_;
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
    if (name == "kl" || name.starts_with("dpo_")) event[name] = value;
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
    ExampleOrder order(rows_->size(), config_.run.seed);
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
      ASSIGN_OR_RETURN(report, rows_->Step(*learner_, drawn, done_ + 1));
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
    RETURN_IF_ERROR(
        SaveModelDir(std::as_const(*learner_).model(), stage_.base_dir, stage_.out_dir));
    std::error_code ignored;  // what is left behind is only room
    std::filesystem::remove_all(checkpoints_dir_, ignored);
    return absl::OkStatus();
  }

 private:
  // Rows, and a learner from the newest checkpoint, or from the model to start from.
  absl::Status Prepare() {
    ASSIGN_OR_RETURN(rows_, Rows::Load(stage_));
    ASSIGN_OR_RETURN(const std::string text, ReadFile(config_.sft.data));
    cursor_ = {{"kind", KindOf(config_)},
               {"rows", rows_->size()},
               {"sha256", Sha256Hex(text)},
               {"examples_per_step", config_.sft.examples_per_step},
               {"seed", config_.run.seed}};
    absl::StatusOr<LoadedCheckpoint> found = FindNewestCheckpoint(checkpoints_dir_);
    if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
    if (found.ok() && found->state.ledger != cursor_) {
      return absl::FailedPreconditionError(
          found->dir + ": was made with other rows, another seed or another examples_per_step (" +
          found->state.ledger.dump() + ", now " + cursor_.dump() + ")");
    }
    // Adapters go on top of what they were trained on.
    const bool whole = found.ok() && config_.lora.rank == 0;
    std::shared_ptr<Transformer> model;
    ASSIGN_OR_RETURN(model, LoadModelDir(whole ? found->hf_dir : stage_.base_dir));
    RunConfig config = config_;
    config.model = ModelSection();
    config.model.path = stage_.base_dir;
    ASSIGN_OR_RETURN(learner_,
                     Learner::CreateForSft(config, std::move(model), metrics_, stage_.ranks));
    if (!found.ok()) return absl::OkStatus();
    RETURN_IF_ERROR(learner_->LoadState(found->dir));
    done_ = found->state.step;
    stage_.emit({{"event", "resumed"}, {"kind", KindOf(config_)}, {"step", done_}});
    return absl::OkStatus();
  }

  absl::Status Save() const {
    return SaveCheckpoint(checkpoints_dir_, *learner_, stage_.base_dir,
                          {.step = done_, .trainer_epoch = 0, .ledger = cursor_}, /*keep_last=*/2);
  }

  const SupervisedStage& stage_;
  const RunConfig& config_;
  MetricsRegistry& metrics_;
  const std::string checkpoints_dir_;
  std::optional<Rows> rows_;
  Json cursor_;  // what the order of rows depends on
  std::unique_ptr<Learner> learner_;
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
