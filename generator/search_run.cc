#include "generator/search_run.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "common/metrics.h"
#include "common/status.h"
#include "generator/engine_hooks.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

absl::Status CheckLength(const SamplingParams& sampling) {
  if (sampling.max_new_tokens > 0) return absl::OkStatus();
  return absl::InvalidArgumentError("max_new_tokens must be positive, got " +
                                    std::to_string(sampling.max_new_tokens));
}

EngineOptions OptionsFor(const LoadedModel& loaded,
                         const std::vector<std::vector<int32_t>>& prompts, int32_t max_new_tokens,
                         int64_t paths, EngineOptions options) {
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  const int64_t tokens = std::min<int64_t>(static_cast<int64_t>(longest) + max_new_tokens,
                                           loaded.model->config().max_position_embeddings);
  const int64_t sequences = std::min<int64_t>(paths, options.max_running_sequences) + 1;
  options.kv_blocks = static_cast<int32_t>(
      std::min<int64_t>(options.kv_blocks, sequences * (tokens / options.kv_block_tokens + 2)));
  options.max_waiting_sequences = static_cast<int32_t>(std::min<int64_t>(paths, 1 << 30));
  options.thinking = loaded.thinking;
  options.length_predictor = loaded.length_predictor;
  return options;
}

}  // namespace

absl::Status ForEachPrompt(const LoadedModel& loaded,
                           const std::vector<std::vector<int32_t>>& prompts,
                           const SamplingParams& sampling, const SearchParams& search,
                           const EngineOptions& options, const PromptWork& work) {
  RETURN_IF_ERROR(CheckLength(sampling));
  if (prompts.empty()) return absl::OkStatus();
  const int64_t at_once = std::clamp<int64_t>(options.max_running_sequences / search.MostPaths(), 1,
                                              std::min<int64_t>(prompts.size(), 64));
  MetricsRegistry metrics;
  ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                   Engine::Create(OptionsFor(loaded, prompts, sampling.max_new_tokens,
                                             at_once * search.MostPaths(), options),
                                  loaded.model, loaded.tokenizer, metrics));
  const EngineHooks hooks = HooksOf(*engine);
  const auto run = [&](size_t p) {
    SampleRequest sample;
    sample.id = std::to_string(p);
    sample.prompt_tokens = prompts[p];
    sample.sampling = sampling;
    sample.sampling.seed += p;
    EnginePaths paths(hooks, std::move(sample), search);
    return work(p, paths);
  };
  std::vector<absl::Status> done(prompts.size());
  std::atomic<size_t> next = 0;
  {
    std::vector<std::jthread> searchers;  // they wait for the engine nearly all of the time
    for (int64_t i = 0; i < at_once; ++i)
      searchers.emplace_back([&] {
        for (size_t p = next++; p < prompts.size(); p = next++) done[p] = run(p);
      });
  }
  for (size_t p = 0; p < done.size(); ++p)
    RETURN_IF_ERROR(Annotate(done[p], "prompt " + std::to_string(p)));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SearchResult>> RunSearches(
    const LoadedModel& loaded, const std::vector<std::vector<int32_t>>& prompts,
    const SamplingParams& sampling, const SearchParams& search, const SearchJudge& judge,
    const EngineOptions& options) {
  std::vector<SearchResult> results(prompts.size());
  const auto work = [&](size_t p, EnginePaths& paths) -> absl::Status {
    SearchTools tools;
    if (judge.score) {
      tools.score = [&judge, p](const std::vector<const SearchPath*>& scored) {
        return judge.score(p, scored);
      };
    }
    tools.answer = judge.answer;
    tools.same = judge.same;
    ASSIGN_OR_RETURN(results[p],
                     SearchIn(paths, search, sampling.max_new_tokens, std::move(tools)));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachPrompt(loaded, prompts, sampling, search, options, work));
  return results;
}

}  // namespace tramontane
