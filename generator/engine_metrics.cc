#include "generator/engine_metrics.h"

#include <string>
#include <utility>

namespace tramontane {

EngineMetrics::EngineMetrics(MetricsRegistry& registry, int32_t kv_blocks)
    : generated_(
          registry.MakeCounter("tramontane_generator_tokens_total", {{"kind", "generated"}})),
      prompt_(registry.MakeCounter("tramontane_generator_tokens_total", {{"kind", "prompt"}})),
      preemptions_(registry.MakeCounter("tramontane_generator_preemptions_total")),
      segments_(registry.MakeCounter("tramontane_generator_segments_ended_total")),
      busy_(registry.MakeCounter("tramontane_generator_busy_seconds_total")),
      wait_work_(
          registry.MakeCounter("tramontane_generator_wait_seconds_total", {{"reason", "work"}})),
      wait_weights_(registry.MakeCounter("tramontane_generator_wait_seconds_total",
                                         {{"reason", "good_weights"}})),
      cache_hits_(registry.MakeCounter("tramontane_generator_prefix_hit_tokens_total",
                                       {{"from", "cache"}})),
      sibling_hits_(registry.MakeCounter("tramontane_generator_prefix_hit_tokens_total",
                                         {{"from", "sibling"}})),
      drafted_(registry.MakeCounter("tramontane_generator_draft_tokens_total",
                                    {{"outcome", "proposed"}})),
      accepted_(registry.MakeCounter("tramontane_generator_draft_tokens_total",
                                     {{"outcome", "accepted"}})),
      running_(registry.MakeGauge("tramontane_generator_running_sequences")),
      waiting_(registry.MakeGauge("tramontane_generator_waiting_sequences")),
      kv_used_(registry.MakeGauge("tramontane_generator_kv_blocks", {{"state", "used"}})),
      kv_kept_(registry.MakeGauge("tramontane_generator_kv_blocks", {{"state", "kept"}})),
      version_(registry.MakeGauge("tramontane_generator_weight_version")),
      probe_gap_(registry.MakeGauge("tramontane_generator_probe_gap")),
      step_(registry.MakeHistogram("tramontane_generator_step_seconds")),
      pause_(registry.MakeHistogram("tramontane_generator_swap_pause_seconds")) {
  for (FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kAborted, FinishReason::kError,
        FinishReason::kTimeout, FinishReason::kRepetition})
    finished_[static_cast<size_t>(reason)] =
        registry.MakeCounter("tramontane_generator_finished_total", {{"reason", ToString(reason)}});
  finished_[static_cast<size_t>(FinishReason::kUnspecified)] =
      registry.MakeCounter("tramontane_generator_finished_total", {{"reason", "paused"}});
  registry.MakeGauge("tramontane_generator_kv_blocks", {{"state", "total"}}).Set(kv_blocks);
  const std::string ends = "tramontane_generator_thinking_ends_total";
  for (const auto& [end, name] : {std::pair{ThinkControl::End::kOpen, "open"},
                                  {ThinkControl::End::kModel, "model"},
                                  {ThinkControl::End::kExhausted, "exhausted"}})
    thinking_ends_[static_cast<size_t>(end)] = registry.MakeCounter(ends, {{"by", name}});
  injected_ = registry.MakeCounter("tramontane_generator_tokens_total", {{"kind", "injected"}});
  extensions_ = registry.MakeCounter("tramontane_generator_thinking_extensions_total");
  const std::string guided = "tramontane_generator_guided_tokens_total";
  guided_ = {registry.MakeCounter(guided, {{"by", "prediction"}}),
             registry.MakeCounter(guided, {{"by", "likeliest"}})};
}

void EngineMetrics::Thought(const ActiveSample& sample) {
  if (sample.thinking() == nullptr) return;
  thinking_ends_[static_cast<size_t>(sample.thinking()->end())].Add();
  extensions_.Add(sample.thinking()->extended());
  injected_.Add(sample.injected_tokens());
}

void EngineMetrics::Step(const EngineStats& stats, double seconds, int32_t generated,
                         int32_t prompt) {
  generated_.Add(generated);
  prompt_.Add(prompt);
  busy_.Add(seconds);
  step_.Observe(seconds);
  const auto count = [](Counter& counter, uint64_t now, uint64_t& seen) {
    counter.Add(static_cast<double>(now - std::exchange(seen, now)));
  };
  count(preemptions_, stats.preemptions, preemptions_seen_);
  count(segments_, stats.segments_ended, segments_seen_);
  count(cache_hits_, stats.cache_hit_tokens, cache_hits_seen_);
  count(sibling_hits_, stats.sibling_hit_tokens, sibling_hits_seen_);
  count(drafted_, stats.drafted_tokens, drafted_seen_);
  count(accepted_, stats.accepted_draft_tokens, accepted_seen_);
  Queue(stats);
}

void EngineMetrics::Queue(const EngineStats& stats) {
  running_.Set(stats.running_sequences);
  waiting_.Set(stats.waiting_sequences);
  kv_used_.Set(stats.kv_blocks_used);
  kv_kept_.Set(stats.kv_blocks_kept);
}

void EngineMetrics::Waited(double seconds, bool healthy) {
  (healthy ? wait_work_ : wait_weights_).Add(seconds);
}

void EngineMetrics::Swapped(const CommitResult& result) {
  Version(result.version);
  probe_gap_.Set(result.probe_gap);
  pause_.Observe(result.pause_seconds);
}

}  // namespace tramontane
