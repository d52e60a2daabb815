#include "generator/engine.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "common/status.h"
#include "generator/core/sampler.h"
#include "generator/core/thinking_plan.h"
#include "generator/engine_hooks.h"
#include "generator/engine_inbox.h"
#include "generator/engine_loop.h"
#include "generator/make_decoder.h"
#include "generator/weight_gate.h"
#include "model/guard_torch.h"
#include "model/transformer.h"
#include "model/weights/flatten.h"
#include "text/thoughts.h"

namespace tramontane {
namespace {

// Each is looked for at every token.
constexpr size_t kMostStopStrings = 64, kMostStopTokens = 1024, kMaxStopStringBytes = 1024;

absl::Status CheckOptions(const EngineOptions& options) {
  for (const auto& [field, value] : {std::pair<const char*, int32_t>{"threads", options.threads},
                                     {"max_running_sequences", options.max_running_sequences},
                                     {"max_waiting_sequences", options.max_waiting_sequences},
                                     {"kv_block_tokens", options.kv_block_tokens},
                                     {"kv_blocks", options.kv_blocks},
                                     {"prefill_chunk_tokens", options.prefill_chunk_tokens}}) {
    if (value < 1)
      return absl::InvalidArgumentError(std::string(field) + " must be positive, got " +
                                        std::to_string(value));
  }
  if (options.ngram_draft_tokens < 0)
    return absl::InvalidArgumentError("ngram_draft_tokens must not be negative");
  return absl::OkStatus();
}

absl::Status CheckTokens(const char* field, const std::vector<int32_t>& tokens, int64_t vocab) {
  for (int32_t token : tokens) {
    if (token < 0 || token >= vocab)
      return absl::InvalidArgumentError(std::string(field) + ": token " + std::to_string(token) +
                                        " is outside the vocabulary of " + std::to_string(vocab));
  }
  return absl::OkStatus();
}

absl::Status CheckBegun(const SampleRequest& request, const ModelConfig& config,
                        int64_t size_limit) {
  if (request.begun == nullptr) return absl::OkStatus();
  const Rollout& begun = request.begun->rollout;
  if (request.n != 1)
    return absl::InvalidArgumentError("n: a response is taken up once, not " +
                                      std::to_string(request.n) + " times");
  RETURN_IF_ERROR(CheckTokens("begun", begun.tokens, config.vocab_size));
  if (begun.logprobs.size() != begun.tokens.size() ||
      !AreDisjointSpans(begun.injected, begun.tokens.size()) || request.begun->draws < 0)
    return absl::InvalidArgumentError("begun: is no beginning of a response");
  const size_t routed = request.prompt_tokens.size() + begun.tokens.size() - 1;
  if (!begun.routes.empty() &&
      begun.routes.size() != routed * static_cast<size_t>(config.route_size()))
    return absl::InvalidArgumentError("begun: its routes are not those of its tokens");
  const auto size = static_cast<int64_t>(request.prompt_tokens.size() + begun.tokens.size());
  if (size >= size_limit ||
      static_cast<int64_t>(begun.tokens.size()) >= request.sampling.max_new_tokens)
    return absl::InvalidArgumentError("begun: leaves no room to generate");
  return absl::OkStatus();
}

absl::Status CheckRequest(const SampleRequest& request, const ModelConfig& config,
                          bool has_tokenizer, int64_t size_limit, int32_t max_waiting) {
  RETURN_IF_ERROR(CheckSampling(request.sampling));
  if (request.n < 1)
    return absl::InvalidArgumentError("n must be positive, got " + std::to_string(request.n));
  if (request.n > max_waiting)  // it would be told to come back for ever
    return absl::InvalidArgumentError("n is " + std::to_string(request.n) +
                                      ", and the queue holds " + std::to_string(max_waiting) +
                                      " samples");
  if (request.wants_routes && config.expert_layers() == 0)
    return absl::InvalidArgumentError("wants_routes: this model has no experts");
  if (!request.on_finished && !request.on_open)
    return absl::InvalidArgumentError("on_finished must be set");
  if (request.prompt_tokens.empty()) return absl::InvalidArgumentError("prompt_tokens is empty");
  if (static_cast<int64_t>(request.prompt_tokens.size()) >= size_limit)
    return absl::InvalidArgumentError(
        "prompt_tokens: " + std::to_string(request.prompt_tokens.size()) +
        " tokens leave no room to generate; model and cache hold " + std::to_string(size_limit));
  RETURN_IF_ERROR(CheckTokens("prompt_tokens", request.prompt_tokens, config.vocab_size));
  RETURN_IF_ERROR(CheckBegun(request, config, size_limit));
  if ((request.begun != nullptr || request.pause.any()) && !request.on_open)
    return absl::InvalidArgumentError("on_open must be set where the response may pause");
  if (request.pause.after_draws < 1) return absl::InvalidArgumentError("pause: must be positive");
  if (request.sampling.stop_token_ids.size() > kMostStopTokens)
    return absl::InvalidArgumentError("stop_token_ids: at most " + std::to_string(kMostStopTokens) +
                                      " can be given");
  RETURN_IF_ERROR(
      CheckTokens("stop_token_ids", request.sampling.stop_token_ids, config.vocab_size));
  for (const auto& [token, bias] : request.rules.logit_bias) {
    RETURN_IF_ERROR(CheckTokens("logit_bias", {token}, config.vocab_size));
    if (!std::isfinite(bias)) return absl::InvalidArgumentError("logit_bias must be finite");
  }
  if (request.sampling.stop.size() > kMostStopStrings)
    return absl::InvalidArgumentError("stop: at most " + std::to_string(kMostStopStrings) +
                                      " strings can be given");
  for (const std::string& stop : request.sampling.stop) {
    if (stop.empty() || stop.size() > kMaxStopStringBytes)
      return absl::InvalidArgumentError("stop: each string must have 1 to " +
                                        std::to_string(kMaxStopStringBytes) + " bytes");
    if (!has_tokenizer) return absl::InvalidArgumentError("stop: this model has no tokenizer");
  }
  return absl::OkStatus();
}

// Control follows the text, so text must come with the tokens.
absl::Status CheckTagsDecode(const ThinkingPlan& plan,
                             const std::shared_ptr<const Tokenizer>& tokenizer) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                   tokenizer->Encode(plan.open + plan.close + " ", false));
  IncrementalDecoder decoder(tokenizer);
  std::string text;
  for (int32_t token : tokens) text += decoder.Push(token);
  if (text.find(plan.close) != std::string::npos) return absl::OkStatus();
  return absl::InvalidArgumentError("thinking: this tokenizer does not give back \"" + plan.close +
                                    "\" token by token");
}

absl::StatusOr<std::shared_ptr<const ThinkingPlan>> PlanFor(
    const SampleRequest& request, const std::shared_ptr<const Tokenizer>& tokenizer,
    const ThinkingProfile& profile, bool has_predictor, const ModelConfig& config,
    int64_t size_limit) {
  const std::optional<ThinkingParams>& thinking = request.sampling.thinking;
  if (tokenizer == nullptr) {
    if (thinking) return absl::InvalidArgumentError("thinking: this model has no tokenizer");
    return nullptr;
  }
  ASSIGN_OR_RETURN(const std::string prompt, tokenizer->Decode(request.prompt_tokens, false));
  const int64_t left = size_limit - static_cast<int64_t>(request.prompt_tokens.size());
  const auto room = static_cast<int32_t>(std::min<int64_t>(left, request.sampling.max_new_tokens));
  std::string opening = request.answer_opening.value_or("");
  if (!request.answer_opening) {
    ASSIGN_OR_RETURN(opening,
                     AnswerOpening(request.prompt_tokens, config.eos_token_ids, *tokenizer));
  }
  ASSIGN_OR_RETURN(
      ThinkingPlan plan,
      PlanThinking(thinking, profile, prompt, opening, room, [&](const std::string& text) {
        return tokenizer->Encode(text, /*add_special_tokens=*/false);
      }));
  if (plan.controlled) RETURN_IF_ERROR(CheckTagsDecode(plan, tokenizer));
  if (plan.guided && !has_predictor)
    return absl::InvalidArgumentError(
        "thinking.guidance: this model has no length predictor (length_predictor.safetensors, "
        "which run.kind length_predictor trains)");
  return std::make_shared<const ThinkingPlan>(std::move(plan));
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const EngineOptions& options, const Transformer& model, std::unique_ptr<Decoder> decoder,
       std::shared_ptr<const Tokenizer> tokenizer, MetricsRegistry& metrics)
      : config_(model.config()),
        tokenizer_(tokenizer),
        profile_(options.thinking),
        has_predictor_(options.length_predictor != nullptr),
        max_waiting_(options.max_waiting_sequences),
        commit_patience_(options.commit_timeout_s),
        inbox_(options.max_waiting_sequences),
        decoder_(std::move(decoder)),
        gate_(EntriesOf(model), config_.vocab_size, *decoder_, options.initial_version),
        loop_(options, config_, *decoder_, std::move(tokenizer), inbox_, gate_, metrics),
        thread_([this] { loop_.Run(); }) {}

  ~Impl() { inbox_.Close(); }

  absl::Status Submit(SampleRequest request) {
    RETURN_IF_ERROR(
        CheckRequest(request, config_, tokenizer_ != nullptr, loop_.size_limit(), max_waiting_));
    ASSIGN_OR_RETURN(request.plan, PlanFor(request, tokenizer_, profile_, has_predictor_, config_,
                                           loop_.size_limit()));
    return inbox_.Submit(std::move(request));
  }
  void Cancel(const std::string& id) { inbox_.Cancel(id); }

  absl::Status Stage(WeightManifest manifest, std::vector<char> payload) {
    absl::Status staged;
    RETURN_IF_ERROR(
        GuardTorch([&] { staged = gate_.Stage(std::move(manifest), std::move(payload)); }));
    return staged;
  }

  absl::StatusOr<CommitResult> Commit(int64_t version, int64_t trainer_epoch) {
    std::lock_guard lock(commit_mutex_);
    // One that nobody waited for to the end comes first, be it this version or an earlier one.
    if (pending_commit_) {
      const bool same = pending_commit_->Is(version, trainer_epoch);
      const absl::StatusOr<CommitResult> result = AwaitCommit();
      if (same || absl::IsDeadlineExceeded(result.status())) return result;
    }
    // A caller that lost the first answer asks again.
    if (last_commit_ && gate_.IsCurrent(version, trainer_epoch) && loop_.stats().healthy)
      return *last_commit_;
    ASSIGN_OR_RETURN(StagedWeights weights, gate_.Take(version, trainer_epoch));
    ASSIGN_OR_RETURN(auto reply, inbox_.Commit(std::move(weights)));
    pending_commit_.emplace(PendingCommit{version, trainer_epoch, std::move(reply)});
    return AwaitCommit();
  }

  EngineStats stats() const { return loop_.stats(); }
  int64_t size_limit() const { return loop_.size_limit(); }

 private:
  struct PendingCommit {
    int64_t version = 0, trainer_epoch = 0;
    std::future<absl::StatusOr<CommitResult>> reply;

    bool Is(int64_t v, int64_t epoch) const { return version == v && trainer_epoch == epoch; }
  };

  // Holds commit_mutex_; there is one pending.
  absl::StatusOr<CommitResult> AwaitCommit() {
    if (pending_commit_->reply.wait_for(commit_patience_) != std::future_status::ready)
      return absl::DeadlineExceededError("the engine's step did not end in time for the commit");
    absl::StatusOr<CommitResult> result = pending_commit_->reply.get();
    pending_commit_.reset();
    if (result.ok()) last_commit_ = *result;
    return result;
  }

  const ModelConfig config_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const ThinkingProfile profile_;
  const bool has_predictor_;
  const int32_t max_waiting_;
  const std::chrono::duration<double> commit_patience_;
  std::mutex commit_mutex_;
  // Guarded by commit_mutex_.
  std::optional<CommitResult> last_commit_;
  std::optional<PendingCommit> pending_commit_;
  EngineInbox inbox_;
  const std::unique_ptr<Decoder> decoder_;
  WeightGate gate_;
  EngineLoop loop_;
  std::jthread thread_;  // last: joins before the others die
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       std::shared_ptr<Transformer> model,
                                                       std::shared_ptr<const Tokenizer> tokenizer,
                                                       MetricsRegistry& metrics) {
  RETURN_IF_ERROR(CheckOptions(options));
  if (options.mtp_draft && !model->config().mtp)
    return absl::InvalidArgumentError(
        "mtp_draft: this model has no multi-token-prediction head (num_nextn_predict_layers)");
  ASSIGN_OR_RETURN(std::unique_ptr<Decoder> decoder, MakeDecoder(options, model, metrics));
  std::unique_ptr<Impl> impl;
  RETURN_IF_ERROR(GuardTorch([&] {
    impl =
        std::make_unique<Impl>(options, *model, std::move(decoder), std::move(tokenizer), metrics);
  }));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::Status Engine::Submit(SampleRequest request) { return impl_->Submit(std::move(request)); }
void Engine::Cancel(const std::string& id) { impl_->Cancel(id); }
absl::Status Engine::StageWeights(WeightManifest manifest, std::vector<char> payload) {
  return impl_->Stage(std::move(manifest), std::move(payload));
}
absl::StatusOr<CommitResult> Engine::CommitWeights(int64_t version, int64_t trainer_epoch) {
  return impl_->Commit(version, trainer_epoch);
}
EngineStats Engine::stats() const { return impl_->stats(); }
int64_t Engine::size_limit() const { return impl_->size_limit(); }

EngineHooks HooksOf(Engine& engine) {
  return {.submit = [&engine](SampleRequest r) { return engine.Submit(std::move(r)); },
          .cancel = [&engine](const std::string& id) { engine.Cancel(id); },
          .stats = [&engine] { return engine.stats(); }};
}

}  // namespace tramontane
