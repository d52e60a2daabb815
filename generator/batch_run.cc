#include "generator/batch_run.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "common/metrics.h"
#include "common/status.h"
#include "model/checkpoint.h"
#include "model/model_dir.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

// Collects what the engine thread finishes.
class Results {
 public:
  Results(size_t prompts, int32_t samples)
      : rollouts_(prompts, std::vector<Rollout>(samples)), missing_(prompts * samples) {}

  void Put(size_t prompt, Rollout rollout) {
    std::lock_guard lock(mutex_);
    if (rollout.finish_reason == FinishReason::kError ||
        rollout.finish_reason == FinishReason::kAborted)
      failed_ = true;
    const int32_t sample = rollout.sample_index;
    rollouts_[prompt][sample] = std::move(rollout);
    if (--missing_ == 0) all_there_.notify_one();
  }

  // Ends because the engine finishes or aborts every sample it has accepted. False: some failed.
  bool Wait() {
    std::unique_lock lock(mutex_);
    all_there_.wait(lock, [this] { return missing_ == 0; });
    return !failed_;
  }
  std::vector<std::vector<Rollout>> Take() { return std::move(rollouts_); }

 private:
  std::mutex mutex_;
  std::condition_variable all_there_;
  std::vector<std::vector<Rollout>> rollouts_;
  size_t missing_;
  bool failed_ = false;
};

// Blocks that all samples need when they run side by side, as many as may.
int64_t BlocksNeeded(const std::vector<std::vector<int32_t>>& prompts, int32_t max_new_tokens,
                     int32_t samples, const EngineOptions& options, int64_t max_positions) {
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  const int64_t tokens =
      std::min(static_cast<int64_t>(longest) + std::max(max_new_tokens, 1), max_positions);
  const int64_t per_sequence = tokens / options.kv_block_tokens + 2;
  const int64_t sequences = std::min(static_cast<int64_t>(prompts.size()) * samples,
                                     int64_t{options.max_running_sequences});
  return per_sequence * (sequences + 1);
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& model_dir) {
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.tokenizer, Tokenizer::Load(model_dir));
  ASSIGN_OR_RETURN(loaded.thinking, LoadThinkingProfile(model_dir));
  ASSIGN_OR_RETURN(loaded.model, LoadTransformer(model_dir));
  ASSIGN_OR_RETURN(loaded.length_predictor, FindLengthPredictor(model_dir));
  return loaded;
}

absl::StatusOr<std::vector<std::vector<Rollout>>> RunBatch(
    const LoadedModel& loaded, const std::vector<std::vector<int32_t>>& prompts,
    const SamplingParams& sampling, int32_t samples_per_prompt, EngineOptions options) {
  if (samples_per_prompt < 1)
    return absl::InvalidArgumentError("n must be positive, got " +
                                      std::to_string(samples_per_prompt));
  if (prompts.empty()) return std::vector<std::vector<Rollout>>();
  options.max_waiting_sequences = static_cast<int32_t>(std::min<int64_t>(
      static_cast<int64_t>(prompts.size()) * samples_per_prompt, int64_t{1} << 30));
  options.kv_blocks = static_cast<int32_t>(std::min<int64_t>(
      options.kv_blocks, BlocksNeeded(prompts, sampling.max_new_tokens, samples_per_prompt, options,
                                      loaded.model->config().max_position_embeddings)));
  options.thinking = loaded.thinking;
  options.length_predictor = loaded.length_predictor;
  Results results(prompts.size(), samples_per_prompt);
  MetricsRegistry metrics;
  // Last, so that its thread has ended before what its callbacks use goes away.
  ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                   Engine::Create(options, loaded.model, loaded.tokenizer, metrics));
  for (size_t p = 0; p < prompts.size(); ++p) {
    SampleRequest request;
    request.id = std::to_string(p);
    request.prompt_tokens = prompts[p];
    request.sampling = sampling;
    request.sampling.seed += p;
    request.n = samples_per_prompt;
    request.on_finished = [&results, p](Rollout rollout) { results.Put(p, std::move(rollout)); };
    RETURN_IF_ERROR(Annotate(engine->Submit(std::move(request)), "prompt " + std::to_string(p)));
  }
  if (!results.Wait()) return absl::InternalError(engine->stats().unhealthy_reason);
  engine.reset();
  return results.Take();
}

}  // namespace tramontane
