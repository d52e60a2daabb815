// The engine's Prometheus series. Engine thread only.
#pragma once

#include <array>

#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/active_sample.h"
#include "generator/engine.h"

namespace tramontane {

class EngineMetrics {
 public:
  EngineMetrics(MetricsRegistry& registry, int32_t kv_blocks);

  void Step(const EngineStats& stats, double seconds, int32_t generated, int32_t prompt);
  void Finished(FinishReason reason) { finished_[static_cast<size_t>(reason)].Add(); }
  void Thought(const ActiveSample& sample);  // as it finishes
  void Guided(bool kept_likeliest) { guided_[kept_likeliest ? 1 : 0].Add(); }
  void Waited(double seconds, bool healthy);
  void Swapped(const CommitResult& result);
  void Version(int64_t version) { version_.Set(static_cast<double>(version)); }
  void Queue(const EngineStats& stats);

 private:
  Counter generated_, prompt_, preemptions_, segments_, busy_, wait_work_, wait_weights_;
  Counter cache_hits_, sibling_hits_, drafted_, accepted_;
  Gauge running_, waiting_, kv_used_, kv_kept_, version_, probe_gap_;
  Histogram step_, pause_;
  std::array<Counter, 7> finished_;       // by FinishReason
  std::array<Counter, 3> thinking_ends_;  // by ThinkControl::End
  Counter injected_, extensions_;
  std::array<Counter, 2> guided_;  // by prediction, by the likeliest token alone
  uint64_t preemptions_seen_ = 0, segments_seen_ = 0, cache_hits_seen_ = 0, sibling_hits_seen_ = 0;
  uint64_t drafted_seen_ = 0, accepted_seen_ = 0;
};

}  // namespace tramontane
