// The engine thread's world: scheduler, cache, model, sampler and the samples under way. Made by
// Engine, run on one thread; stats() alone may be called from others.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "generator/active_sample.h"
#include "generator/core/sampler.h"
#include "generator/core/scheduler.h"
#include "generator/engine.h"
#include "generator/engine_inbox.h"
#include "generator/engine_metrics.h"
#include "generator/kv_cache.h"
#include "generator/step_batch.h"
#include "generator/weight_gate.h"

namespace tramontane {

class EngineLoop {
 public:
  // Throws c10::Error when memory is short. References outlive the loop.
  EngineLoop(const EngineOptions& options, std::shared_ptr<Transformer> model,
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
  struct LiveSample {
    ActiveSample sample;
    std::chrono::steady_clock::time_point started;
  };

  void Handle(EngineWork work);
  void Admit(SampleRequest request);
  void Cancel(const std::string& id);
  absl::StatusOr<CommitResult> Commit(const StagedWeights& weights);
  void Step();
  absl::Status Forward(const StepPlan& plan, at::Tensor& logits_RV);
  void Sample(const StepPlan& plan, const at::Tensor& logits_RV);
  void Finish(uint64_t sequence_id, FinishReason reason);
  void AbortAll(FinishReason reason);
  void BecomeUnhealthy(const std::string& why);
  void RefreshStats();

  const EngineOptions options_;
  const std::shared_ptr<Transformer> model_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  EngineInbox& inbox_;
  WeightGate& gate_;
  EngineMetrics metrics_;
  Scheduler scheduler_;
  const int64_t size_limit_;
  KvCache cache_;
  StepBatch batch_;
  Sampler sampler_;
  std::unordered_map<uint64_t, LiveSample> samples_;  // by sequence id
  std::unordered_map<std::string, LiveRequest> requests_;
  uint64_t next_sequence_ = 1, next_request_ = 1;
  const std::chrono::steady_clock::time_point born_;

  EngineStats stats_;  // the engine thread's own
  mutable std::mutex published_mutex_;
  EngineStats published_;  // guarded by published_mutex_
};

}  // namespace tramontane
