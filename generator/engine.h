// The generator's engine: one thread that owns model, KV cache, scheduler and sampler, and steps
// for as long as there is work. Others talk to it by bounded mailboxes and callbacks.
//
// Weights are swapped between two decode steps; running sequences go on with their KV cache, and
// every token carries the version that sampled it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/core/sampler.h"
#include "generator/core/thinking_plan.h"
#include "generator/draw_rules.h"
#include "model/weights/manifest.h"
#include "text/tokenizer.h"

namespace tramontane {

class LengthPredictor;
class Transformer;

struct EngineOptions {
  std::string engine = "fused";  // fused | torch; fused falls back where a model needs torch
  // float32 | bfloat16 | int8: what the fused engine rounds the layers' matrices to.
  std::string weights_dtype = "float32";
  int32_t threads = 1;
  int32_t max_running_sequences = 128;
  int32_t max_waiting_sequences = 1024;
  int32_t kv_block_tokens = 16;
  int32_t kv_blocks = 4096;
  int32_t prefill_chunk_tokens = 512;
  bool prefix_cache = true;           // blocks of finished sequences serve those that begin alike
  bool recompute_kv_on_swap = false;  // running sequences compute all their keys by the new weights
  // After so many tokens in one go a sample queues behind those that wait, if any do. 0: never.
  int32_t segment_tokens = 0;
  // Most tokens a step guesses for a sequence from what it holds already; right guesses save steps
  // and change nothing. 0: off.
  int32_t ngram_draft_tokens = 0;
  // Guesses one token a step by the model's multi-token-prediction head, where there is no other
  // guess. Likewise.
  bool mtp_draft = false;
  bool count_experts = false;  // EngineStats::touched_experts, by a look at each step's routes
  double commit_timeout_s = 60;  // for which CommitWeights waits for the engine's step to end
  int64_t initial_version = 0;
  ThinkingProfile thinking = {};  // what the model publishes about its thinking
  std::shared_ptr<const LengthPredictor> length_predictor = {};  // of guidance; null: there is none
};

struct TokenChunk {
  int32_t sample_index = 0;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> alternatives = {};  // of each token, if asked for
  int64_t version = 0;
  bool injected = false;  // put in, not sampled: the log-probabilities mean nothing
  std::string text;
};

// Of a prompt's tokens but for the first, which follows nothing; at temperature 1.
struct PromptLogprobs {
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> alternatives;
};

// Where a response is interrupted; another request may take it up from its rollout.
struct PauseRule {
  std::string at_text;  // behind the token that brings it; empty: nowhere
  int32_t after_draws = INT32_MAX;

  bool any() const { return !at_text.empty() || after_draws != INT32_MAX; }
};

// A response that may go on: what there is of it, and how many random numbers it took, those of
// tokens that control took back included. A finish reason of kUnspecified: it has paused.
struct OpenResponse {
  Rollout rollout;
  int32_t draws = 0;
};

// `n` samples of one prompt. Callbacks run on the engine thread: they must not block.
struct SampleRequest {
  std::string id;
  std::vector<int32_t> prompt_tokens;
  SamplingParams sampling;
  int32_t n = 1;
  int32_t first_sample = 0;  // sample i draws from stream first_sample + i
  // A response that goes on where an earlier request of this prompt and sampling paused, as if it
  // had never stopped: draws, control, rules, stop strings and limits; its rollout holds all of it,
  // with the routes that its first part had where that one was asked for them.
  // The pause counts from here. One sample alone.
  std::shared_ptr<const OpenResponse> begun = {};
  PauseRule pause = {};
  DrawRules rules = {};
  int32_t top_logprobs = 0;  // alternatives reported beside each token
  bool wants_routes = false;  // Rollout::routes; for models with experts
  // The end of the prompt's text that belongs to the answer (what a chat template begins it with,
  // or a message to be continued): thinking is open where this leaves it open. Absent: what follows
  // the prompt's last end token.
  std::optional<std::string> answer_opening = {};
  // Samples that are not finished by then, waiting ones included, end with kTimeout after the step.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::function<void(PromptLogprobs)> on_prompt = {};  // may be empty; once, before the first chunk
  std::function<void(TokenChunk)> on_chunk;            // may be empty: no streaming
  std::function<void(Rollout)> on_finished;            // once per sample
  std::function<void(OpenResponse)> on_open = {};      // in its place, for responses that may pause
  std::shared_ptr<const ThinkingPlan> plan;            // made by Submit; null without a tokenizer
};

struct CommitResult {
  int64_t version = 0;
  double pause_seconds = 0;
  double probe_gap = 0;
};

struct EngineStats {
  int32_t running_sequences = 0, waiting_sequences = 0;
  int32_t kv_blocks_used = 0, kv_blocks_kept = 0, kv_blocks_total = 0;
  uint64_t generated_tokens = 0, prompt_tokens = 0, steps = 0, preemptions = 0;
  uint64_t segments_ended = 0;  // samples that made room after EngineOptions::segment_tokens
  // Prompt tokens that were not computed: found in the prefix cache, or computed by a sibling.
  uint64_t cache_hit_tokens = 0, sibling_hit_tokens = 0;
  uint64_t drafted_tokens = 0, accepted_draft_tokens = 0;
  // Of models with experts, where EngineOptions::count_experts asks for it: steps without prompt
  // tokens, and the experts of all layers that each of them went through.
  uint64_t decode_steps = 0, touched_experts = 0;
  double busy_seconds = 0, uptime_seconds = 0;
  int64_t version = 0;
  bool healthy = true;  // false after a probe disagreed or a step failed; nothing is served then
  std::string unhealthy_reason;
};

class Engine {
 public:
  // `metrics` outlives the engine.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                        std::shared_ptr<Transformer> model,
                                                        std::shared_ptr<const Tokenizer> tokenizer,
                                                        MetricsRegistry& metrics);
  // Stops the thread; unfinished samples end with kAborted.
  ~Engine();

  // Any thread. InvalidArgument (parameters, prompt too long for cache or model),
  // ResourceExhausted (waiting queue full), AlreadyExists (id), Unavailable (unhealthy, stopping).
  absl::Status Submit(SampleRequest request);
  void Cancel(const std::string& id);  // its samples end with kAborted

  // Verifies manifest and hashes and keeps the payload beside the weights in use. Any thread.
  absl::Status StageWeights(WeightManifest manifest, std::vector<char> payload);
  // Swaps the staged version in between two steps, runs the probe, returns. Any thread but the
  // engine's. FailedPrecondition: nothing staged at (epoch, version). DataLoss: probe disagreed,
  // the engine then serves nothing until a good version is committed. DeadlineExceeded: the commit
  // is still on its way; asking again for the same version waits for that one and tells what came
  // of it. A version that is in use already answers as it did.
  absl::StatusOr<CommitResult> CommitWeights(int64_t version, int64_t trainer_epoch);

  EngineStats stats() const;
  int64_t size_limit() const;  // tokens of prompt and response together

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
