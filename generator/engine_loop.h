// The engine thread's world: scheduler, decoder, sampler and the samples under way. Made by
// Engine, run on one thread; stats() alone may be called from others.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "generator/active_sample.h"
#include "generator/core/route_cache.h"
#include "generator/core/sampler.h"
#include "generator/core/scheduler.h"
#include "generator/decoder.h"
#include "generator/engine.h"
#include "generator/engine_inbox.h"
#include "generator/engine_metrics.h"
#include "generator/token_draw.h"
#include "generator/weight_gate.h"
#include "model/model_config.h"

namespace tramontane {

class EngineLoop {
 public:
  // References outlive the loop.
  EngineLoop(const EngineOptions& options, const ModelConfig& config, Decoder& decoder,
             std::shared_ptr<const Tokenizer> tokenizer, EngineInbox& inbox, WeightGate& gate,
             MetricsRegistry& metrics);

  // Until the inbox is closed. All unfinished samples then end with kAborted.
  void Run();

  // Prompt and response together, as far as model and cache reach. Any thread.
  int64_t size_limit() const { return size_limit_; }
  EngineStats stats() const;  // any thread

 private:
  struct LiveRequest {
    std::shared_ptr<const ActiveRequest> shared;
    std::vector<uint64_t> sequences;  // ids of its unfinished samples
  };
  struct Foreseen {
    int32_t position = -1, token = 0;
  };
  struct LiveSample {
    ActiveSample sample;
    std::chrono::steady_clock::time_point started;
    std::optional<RuledDraw> rules = {};        // where the request has any
    std::optional<PromptLogprobs> prompt = {};  // where they are asked for, until they are whole
    int32_t segment_begin = 0;  // tokens, prompt included, when it was last admitted
    // The token that the multi-token-prediction head expects as the `position`th.
    Foreseen foreseen = {};
  };

  // What a step brought to an end, told to callbacks when the step has been counted.
  struct StepEnd {
    std::vector<std::pair<uint64_t, FinishReason>> finished;
    std::string broken;  // why nothing can be served any more; empty: all is well
  };

  void Handle(EngineWork work);
  void Admit(SampleRequest request);
  void End(const std::string& id, FinishReason reason);  // all of its samples
  void EndLate();
  absl::StatusOr<CommitResult> Commit(StagedWeights& weights);
  void Step();
  void AddDrafts();
  // Has the multi-token-prediction head look at the step's tokens, and notes what it expects.
  absl::Status Foresee(const StepPlan& plan, const StepEnd& end);
  StepEnd Sample(const StepPlan& plan, const LogitRows& logits);
  // What the item's rows of logits, the first of which is `first_row`, say of its prompt.
  void ScorePrompt(LiveSample& live, const StepItem& item, const LogitRows& logits,
                   int64_t first_row);
  // Draws the next token, and as many behind it as the item's drafts were right. Logits begin with
  // the newest token's. Why the sample ends, if it does; DataLoss: logits were not finite.
  absl::StatusOr<std::optional<FinishReason>> Advance(LiveSample& live, const StepItem& item,
                                                      const LogitRows& logits, int64_t first_row);
  // Why the sample ends with `token`, if it does.
  absl::StatusOr<std::optional<FinishReason>> Take(LiveSample& live, const SampledToken& token);
  // As many of those that had their segment as there are samples waiting go to the queue's end.
  void EndSegments();
  void Finish(uint64_t sequence_id, FinishReason reason);
  void AbortAll(FinishReason reason);
  void BecomeUnhealthy(const std::string& why);
  void RefreshStats();

  const EngineOptions options_;
  const ModelConfig& config_;
  Decoder& decoder_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  EngineInbox& inbox_;
  WeightGate& gate_;
  EngineMetrics metrics_;
  Scheduler scheduler_;
  const int64_t size_limit_;
  RouteCache routes_;
  TokenDraw draw_;
  std::unordered_map<uint64_t, LiveSample> samples_;  // by sequence id
  std::unordered_map<std::string, LiveRequest> requests_;
  std::chrono::steady_clock::time_point next_deadline_;  // of any request
  uint64_t next_sequence_ = 1, next_request_ = 1;
  const std::chrono::steady_clock::time_point born_;

  EngineStats stats_;  // the engine thread's own
  mutable std::mutex published_mutex_;
  EngineStats published_;  // guarded by published_mutex_
};

}  // namespace tramontane
