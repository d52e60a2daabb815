#include "services/trainer/sft_stage.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "data/dataset.h"
#include "model/model_config.h"
#include "model/model_dir.h"
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

absl::StatusOr<std::vector<SftExample>> LoadExamples(const SftStage& stage) {
  ModelConfig model;
  ASSIGN_OR_RETURN(model, LoadModelConfig(stage.base_dir));
  if (model.eos_token_ids.empty()) {
    return absl::InvalidArgumentError(stage.base_dir +
                                      ": eos_token_id is not set, so completions would never end");
  }
  std::vector<SftExample> examples;
  ASSIGN_OR_RETURN(examples,
                   LoadSftExamples(stage.config.sft.data, *stage.text.tokenizer,
                                   stage.text.chat_template.get(), model.eos_token_ids.front()));
  if (examples.empty()) return absl::InvalidArgumentError(stage.config.sft.data + ": no examples");
  return examples;
}

Json StepEvent(const StepReport& report, int64_t steps, double elapsed_s) {
  return {{"event", "sft_step"},
          {"step", report.step},
          {"steps", steps},
          {"loss", report.loss},
          {"grad_norm", report.grad_norm},
          {"learning_rate", report.learning_rate},
          {"seconds", report.seconds},
          {"elapsed_s", elapsed_s}};
}

}  // namespace

bool HasSftStage(const RunConfig& config) {
  return !config.sft.data.empty() && config.sft.steps > 0;
}

absl::Status RunSftStage(const SftStage& stage, MetricsRegistry& metrics,
                         const std::atomic<bool>& stop) {
  std::error_code ignored;
  if (std::filesystem::exists(stage.out_dir, ignored)) {
    LogInfo("sft_done_already", {{"model", stage.out_dir}});
    return absl::OkStatus();
  }
  std::vector<SftExample> examples;
  ASSIGN_OR_RETURN(examples, LoadExamples(stage));
  std::shared_ptr<Transformer> model;
  ASSIGN_OR_RETURN(model, LoadModelDir(stage.base_dir));
  std::unique_ptr<Learner> learner;
  ASSIGN_OR_RETURN(learner, Learner::CreateForSft(stage.config, std::move(model), metrics, stage.ranks));

  ExampleOrder order(examples.size(), stage.config.run.seed);
  std::vector<SftExample> batch(static_cast<size_t>(stage.config.sft.examples_per_step));
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 1; step <= stage.config.sft.steps; ++step) {
    if (stop) return absl::CancelledError("stopped in the SFT stage");
    for (SftExample& example : batch) example = examples[order.Next()];
    StepReport report;
    ASSIGN_OR_RETURN(report, learner->SftStep(batch, step));
    stage.emit(StepEvent(report, stage.config.sft.steps, SecondsSince(start)));
  }
  return SaveModelDir(std::as_const(*learner).model(), stage.base_dir, stage.out_dir);
}

}  // namespace tramontane
