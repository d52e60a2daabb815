#include "generator/search_run.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "common/metrics.h"
#include "common/status.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

// Waits for the samples of one round.
class Round {
 public:
  explicit Round(size_t samples) : rollouts_(samples) {}

  void Put(size_t index, Rollout rollout) {
    std::lock_guard lock(mutex_);
    rollouts_[index] = std::move(rollout);
    ++finished_;
    changed_.notify_all();
  }
  // Ends because the engine finishes or aborts whatever it has accepted.
  void Wait(size_t samples) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ >= samples; });
  }
  std::vector<Rollout> Take() { return std::move(rollouts_); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Rollout> rollouts_;
  size_t finished_ = 0;
};

// Grows the paths of one prompt. One thread.
class EngineGrower {
 public:
  EngineGrower(Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, size_t prompt_index,
               const std::vector<int32_t>& prompt, const SamplingParams& sampling,
               const std::string& step_end)
      : engine_(engine),
        tokenizer_(std::move(tokenizer)),
        prompt_index_(prompt_index),
        prompt_(prompt),
        sampling_(sampling),
        step_end_(step_end) {}

  absl::StatusOr<std::vector<PathGrowth>> Grow(const std::vector<PathAsk>& asks) {
    Round round(asks.size());
    size_t accepted = 0;
    absl::Status refused;
    for (size_t i = 0; i < asks.size() && refused.ok(); ++i) {
      refused = engine_.Submit(Request(asks[i], i, round));
      accepted += refused.ok();
    }
    round.Wait(accepted);
    RETURN_IF_ERROR(refused);
    std::vector<Rollout> rollouts = round.Take();
    std::vector<PathGrowth> grown;
    for (size_t i = 0; i < asks.size(); ++i) {
      ASSIGN_OR_RETURN(PathGrowth growth, Grown(asks[i], std::move(rollouts[i])));
      grown.push_back(std::move(growth));
    }
    return grown;
  }

 private:
  SampleRequest Request(const PathAsk& ask, size_t index, Round& round) {
    const Rollout& path = ask.path->rollout;
    SampleRequest request;
    request.id = std::to_string(prompt_index_) + "/" + std::to_string(next_request_++);
    request.prompt_tokens = prompt_;
    request.prompt_tokens.insert(request.prompt_tokens.end(), path.tokens.begin(),
                                 path.tokens.end());
    request.sampling = sampling_;
    request.sampling.max_new_tokens = ask.max_tokens;
    if (!ask.to_end) request.sampling.stop.push_back(step_end_);
    request.first_sample = path.sample_index;
    request.first_draw = static_cast<int32_t>(path.tokens.size());
    request.on_finished = [&round, index](Rollout rollout) {
      round.Put(index, std::move(rollout));
    };
    return request;
  }

  absl::StatusOr<PathGrowth> Grown(const PathAsk& ask, Rollout rollout) {
    if (rollout.finish_reason != FinishReason::kStop &&
        rollout.finish_reason != FinishReason::kLength)
      return absl::InternalError("the engine could not grow a path: " +
                                 engine_.stats().unhealthy_reason);
    PathGrowth growth;
    ASSIGN_OR_RETURN(growth.stop, StopOf(ask, rollout));
    std::vector<int32_t> all = ask.path->rollout.tokens;
    all.insert(all.end(), rollout.tokens.begin(), rollout.tokens.end());
    ASSIGN_OR_RETURN(std::string text, tokenizer_->Decode(all, /*skip_special_tokens=*/false));
    if (growth.stop == PathStop::kEnded) {
      // Neither an end token nor a stop string belongs to the text.
      ASSIGN_OR_RETURN(const std::string whole, tokenizer_->Decode(rollout.tokens, false));
      const size_t behind = whole.size() - std::min(whole.size(), rollout.text.size());
      text.resize(text.size() - std::min(text.size(), behind));
    }
    growth.rollout = std::move(rollout);
    growth.rollout.text = std::move(text);
    return growth;
  }

  // A step has ended where its delimiter follows the text and no stop string of the request does.
  absl::StatusOr<PathStop> StopOf(const PathAsk& ask, const Rollout& rollout) const {
    if (rollout.finish_reason == FinishReason::kLength) {
      const size_t size = prompt_.size() + ask.path->rollout.tokens.size() + rollout.tokens.size();
      const bool full = static_cast<int64_t>(size) >= engine_.size_limit();
      return full ? PathStop::kEnded : PathStop::kCut;
    }
    if (ask.to_end) return PathStop::kEnded;
    ASSIGN_OR_RETURN(const std::string whole, tokenizer_->Decode(rollout.tokens, false));
    if (rollout.text.size() > whole.size()) return PathStop::kEnded;
    const std::string_view behind = std::string_view(whole).substr(rollout.text.size());
    const bool stopped = std::ranges::any_of(
        sampling_.stop, [&](const std::string& stop) { return behind.starts_with(stop); });
    return behind.starts_with(step_end_) && !stopped ? PathStop::kStep : PathStop::kEnded;
  }

  Engine& engine_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const size_t prompt_index_;
  const std::vector<int32_t>& prompt_;
  const SamplingParams sampling_;
  const std::string& step_end_;
  int64_t next_request_ = 0;
};

// What the policy thinks of its own paths, per token.
absl::StatusOr<std::vector<double>> MeanLogprobs(const std::vector<const SearchPath*>& paths) {
  std::vector<double> scores;
  for (const SearchPath* path : paths) {
    const std::vector<float>& logprobs = path->rollout.logprobs;
    const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
    const auto sampled = static_cast<double>(logprobs.size()) -
                         static_cast<double>(CountTokens(path->rollout.injected));
    scores.push_back(sampled > 0 ? sum / sampled : 0);
  }
  return scores;
}

// Paths that one search may grow side by side.
int64_t MostPaths(const SearchParams& search) {
  const bool tree = search.method == "mcts";
  return tree ? int64_t{search.expansion} * std::max(search.rollouts, 1) : search.n;
}

absl::Status CheckTogether(const SamplingParams& sampling, const SearchParams& search) {
  if (sampling.max_new_tokens < 1)
    return absl::InvalidArgumentError("max_new_tokens must be positive, got " +
                                      std::to_string(sampling.max_new_tokens));
  const bool interrupts = search.by_steps() || search.token_budget > 0 ||
                          (search.aggregate != "last" && search.method != "majority");
  if (sampling.thinking && interrupts)
    return absl::InvalidArgumentError(
        "thinking: works with searches over whole responses alone: no steps, no token_budget");
  return absl::OkStatus();
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
  return options;
}

}  // namespace

absl::StatusOr<std::vector<SearchResult>> RunSearches(
    const LoadedModel& loaded, const std::vector<std::vector<int32_t>>& prompts,
    const SamplingParams& sampling, const SearchParams& search, const SearchJudge& judge,
    EngineOptions options) {
  RETURN_IF_ERROR(CheckTogether(sampling, search));
  if (prompts.empty()) return std::vector<SearchResult>();
  const int64_t at_once = std::clamp<int64_t>(options.max_running_sequences / MostPaths(search), 1,
                                              std::min<int64_t>(prompts.size(), 64));
  MetricsRegistry metrics;
  ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                   Engine::Create(OptionsFor(loaded, prompts, sampling.max_new_tokens,
                                             at_once * MostPaths(search), options),
                                  loaded.model, loaded.tokenizer, metrics));

  const auto run = [&](size_t p) -> absl::StatusOr<SearchResult> {
    SamplingParams own = sampling;
    own.seed += p;
    EngineGrower grower(*engine, loaded.tokenizer, p, prompts[p], own, search.step_end);
    SearchTools tools;
    tools.grow = [&grower](const std::vector<PathAsk>& asks) { return grower.Grow(asks); };
    tools.score = MeanLogprobs;
    if (judge.score) {
      tools.score = [&judge, p](const std::vector<const SearchPath*>& paths) {
        return judge.score(p, paths);
      };
    }
    tools.answer = judge.answer;
    tools.same = judge.same;
    return Search(search, sampling.max_new_tokens, tools);
  };
  std::vector<absl::StatusOr<SearchResult>> found(prompts.size());
  std::atomic<size_t> next = 0;
  {
    std::vector<std::jthread> searchers;  // they wait for the engine nearly all of the time
    for (int64_t i = 0; i < at_once; ++i)
      searchers.emplace_back([&] {
        for (size_t p = next++; p < prompts.size(); p = next++) found[p] = run(p);
      });
  }
  std::vector<SearchResult> results;
  for (size_t p = 0; p < found.size(); ++p) {
    if (!found[p].ok()) return Annotate(found[p].status(), "prompt " + std::to_string(p));
    results.push_back(*std::move(found[p]));
  }
  return results;
}

}  // namespace tramontane
