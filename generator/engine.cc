#include "generator/engine.h"

#include <c10/util/Exception.h>

#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "common/status.h"
#include "generator/core/sampler.h"
#include "generator/engine_inbox.h"
#include "generator/engine_loop.h"
#include "generator/weight_gate.h"
#include "model/guard_torch.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

constexpr std::chrono::seconds kCommitPatience{60};
constexpr size_t kMaxStopStringBytes = 1024;

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

absl::Status CheckRequest(const SampleRequest& request, const ModelConfig& config,
                          bool has_tokenizer, int64_t size_limit) {
  RETURN_IF_ERROR(CheckSampling(request.sampling));
  if (request.n < 1)
    return absl::InvalidArgumentError("n must be positive, got " + std::to_string(request.n));
  if (!request.on_finished) return absl::InvalidArgumentError("on_finished must be set");
  if (request.prompt_tokens.empty()) return absl::InvalidArgumentError("prompt_tokens is empty");
  if (static_cast<int64_t>(request.prompt_tokens.size()) >= size_limit)
    return absl::InvalidArgumentError(
        "prompt_tokens: " + std::to_string(request.prompt_tokens.size()) +
        " tokens leave no room to generate; model and cache hold " + std::to_string(size_limit));
  RETURN_IF_ERROR(CheckTokens("prompt_tokens", request.prompt_tokens, config.vocab_size));
  RETURN_IF_ERROR(
      CheckTokens("stop_token_ids", request.sampling.stop_token_ids, config.vocab_size));
  for (const std::string& stop : request.sampling.stop) {
    if (stop.empty() || stop.size() > kMaxStopStringBytes)
      return absl::InvalidArgumentError("stop: each string must have 1 to " +
                                        std::to_string(kMaxStopStringBytes) + " bytes");
    if (!has_tokenizer) return absl::InvalidArgumentError("stop: this model has no tokenizer");
  }
  return absl::OkStatus();
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const EngineOptions& options, std::shared_ptr<Transformer> model,
       std::shared_ptr<const Tokenizer> tokenizer, MetricsRegistry& metrics)
      : model_(model),
        has_tokenizer_(tokenizer != nullptr),
        inbox_(options.max_waiting_sequences),
        gate_(*model, options.initial_version),
        loop_(options, std::move(model), std::move(tokenizer), inbox_, gate_, metrics),
        thread_([this] { loop_.Run(); }) {}

  ~Impl() { inbox_.Close(); }

  absl::Status Submit(SampleRequest request) {
    RETURN_IF_ERROR(CheckRequest(request, model_->config(), has_tokenizer_, loop_.size_limit()));
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
    // A caller that lost the first answer asks again.
    if (last_commit_ && gate_.IsCurrent(version, trainer_epoch) && loop_.stats().healthy)
      return *last_commit_;
    ASSIGN_OR_RETURN(StagedWeights weights, gate_.Take(version, trainer_epoch));
    ASSIGN_OR_RETURN(auto reply, inbox_.Commit(std::move(weights)));
    if (reply.wait_for(kCommitPatience) != std::future_status::ready)
      return absl::DeadlineExceededError("the engine's step did not end in time for the commit");
    absl::StatusOr<CommitResult> result = reply.get();
    if (result.ok()) last_commit_ = *result;
    return result;
  }

  EngineStats stats() const { return loop_.stats(); }

 private:
  const std::shared_ptr<Transformer> model_;
  const bool has_tokenizer_;
  std::mutex commit_mutex_;
  std::optional<CommitResult> last_commit_;  // guarded by commit_mutex_
  EngineInbox inbox_;
  WeightGate gate_;
  EngineLoop loop_;
  std::jthread thread_;  // last: joins before the others die
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       std::shared_ptr<Transformer> model,
                                                       std::shared_ptr<const Tokenizer> tokenizer,
                                                       MetricsRegistry& metrics) {
  RETURN_IF_ERROR(CheckOptions(options));
  std::unique_ptr<Impl> impl;
  RETURN_IF_ERROR(GuardTorch([&] {
    impl = std::make_unique<Impl>(options, std::move(model), std::move(tokenizer), metrics);
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

}  // namespace tramontane
