#include "trainer/loop/step_recorder.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "common/clock.h"
#include "common/process_memory.h"
#include "common/status.h"
#include "trainer/ledger/group_gate.h"
#include "trainer/ledger/rollout_log.h"

namespace tramontane {
namespace {

std::string RolloutsPath(const std::string& run_dir, int64_t step, const char* set) {
  return run_dir + "/rollouts/step_" + std::to_string(step) + "/" + set + ".jsonl";
}

double MeanRewardOf(const std::vector<ReadyGroup>& batch) {
  double sum = 0;
  int64_t count = 0;
  for (const ReadyGroup& ready : batch) {
    for (const Rollout& rollout : ready.group.rollouts) {
      sum += rollout.verdict.score.value_or(0);
      ++count;
    }
  }
  return count ? sum / static_cast<double>(count) : 0;
}

// A step that was skipped, or had no token of a generator, leaves the gauge as it was.
void SetIfThere(Gauge& gauge, const std::map<std::string, double>& metrics,
                const std::string& name) {
  if (const auto found = metrics.find(name); found != metrics.end()) gauge.Set(found->second);
}

}  // namespace

StepRecorder::StepRecorder(Options options, Events& events, BackgroundWriter& writer,
                           MetricsRegistry& metrics)
    : options_(std::move(options)),
      events_(events),
      writer_(writer),
      metrics_(metrics),
      step_gauge_(metrics.MakeGauge("tramontane_trainer_step")),
      last_step_(metrics.MakeGauge("tramontane_trainer_last_step_timestamp_seconds")),
      reward_gauge_(metrics.MakeGauge("tramontane_reward_mean")),
      accuracy_gauge_(metrics.MakeGauge("tramontane_eval_accuracy")),
      probe_gap_(metrics.MakeGauge("tramontane_trainer_logprob_gap", {{"statistic", "probe"}})),
      mismatch_kl_(metrics.MakeGauge("tramontane_trainer_mismatch_kl")),
      ess_ratio_(metrics.MakeGauge("tramontane_trainer_importance_ess_ratio")),
      chi2_(metrics.MakeGauge("tramontane_trainer_importance_chi2")),
      trained_(metrics.MakeCounter("tramontane_groups_total", {{"event", "trained"}})),
      dropped_(metrics.MakeCounter("tramontane_groups_total", {{"event", "dropped"}})),
      busy_seconds_(metrics.MakeCounter("tramontane_trainer_busy_seconds_total")),
      wait_seconds_(
          metrics.MakeCounter("tramontane_trainer_wait_seconds_total", {{"reason", "groups"}})),
      staleness_trained_(
          metrics.MakeHistogram("tramontane_sample_staleness_versions", {{"stage", "trained"}})),
      tokens_trained_(metrics.MakeHistogram("tramontane_output_tokens", {{"set", "trained"}})),
      recent_(options_.recent_rewards.begin(), options_.recent_rewards.end()) {
  StartClock();
}

void StepRecorder::StartClock() {
  start_ = last_step_at_ = std::chrono::steady_clock::now();
  marks_ = {{options_.elapsed_before_s, options_.tokens_before}};
}

double StepRecorder::elapsed_s() const { return options_.elapsed_before_s + SecondsSince(start_); }

double StepRecorder::TokensPerSecondOverall() const {
  const double seconds = elapsed_s();
  return seconds > 0 ? static_cast<double>(generated_tokens()) / seconds : 0;
}

double StepRecorder::RecentTokensPerSecond() const {
  const Mark& first = marks_.front();
  const Mark& last = marks_.back();
  const double seconds = last.elapsed_s - first.elapsed_s;
  return seconds > 0 ? static_cast<double>(last.tokens - first.tokens) / seconds : 0;
}

double StepRecorder::Reward10() const {
  double sum = 0;
  for (double reward : recent_) sum += reward;
  return recent_.empty() ? 0 : sum / static_cast<double>(recent_.size());
}

double StepRecorder::TakeStaleness(const StepFacts& facts) {
  double sum = 0;
  int64_t count = 0;
  for (const ReadyGroup& ready : facts.batch) {
    for (const Rollout& rollout : ready.group.rollouts) {
      const auto lag = static_cast<double>(facts.version_before - MinVersion(rollout));
      staleness_trained_.Observe(lag);
      tokens_trained_.Observe(static_cast<double>(rollout.tokens.size()));
      sum += lag;
      ++count;
    }
  }
  staleness_sum_ += sum;
  staleness_count_ += count;
  return count ? sum / static_cast<double>(count) : 0;
}

Json StepRecorder::Record(StepFacts facts) {
  tokens_ += facts.window.tokens;
  // A step that found all its groups gathered already sampled nothing new: take what it trained on.
  last_reward_ = facts.window.samples ? facts.window.MeanReward() : MeanRewardOf(facts.batch);
  recent_.push_back(last_reward_);
  if (recent_.size() > kRecent) recent_.pop_front();
  marks_.push_back({elapsed_s(), generated_tokens()});
  if (marks_.size() > kRecent + 1) marks_.pop_front();
  last_staleness_ = TakeStaleness(facts);
  largest_gap_ =
      std::max({largest_gap_, facts.report.logprob_gap_max, facts.probe_gap.value_or(0)});

  Json line = StepLine(facts, last_reward_, last_staleness_);
  last_step_at_ = std::chrono::steady_clock::now();
  ExportMetrics(facts, last_reward_);
  Append(line);
  events_.Emit(line);
  WriteRollouts(std::move(facts));
  return line;
}

Json StepRecorder::StepLine(const StepFacts& facts, double reward, double staleness) const {
  const StepReport& report = facts.report;
  const WindowTotals& window = facts.window;
  Json line = {
      {"event", "step"},
      {"step", report.step},
      {"max_steps", options_.max_steps},
      {"epoch", facts.epoch},
      {"time_unix_s", SystemClock().NowUnixMs() / 1e3},
      {"elapsed_s", elapsed_s()},
      {"seconds", SecondsSince(last_step_at_)},
      {"step_seconds", report.seconds},
      {"wait_seconds", facts.wait_seconds},
      {"reward_mean", reward},
      {"reward_10", Reward10()},
      {"tokens_per_second", RecentTokensPerSecond()},
      {"tokens_per_second_overall", TokensPerSecondOverall()},
      {"generated_tokens", generated_tokens()},
      {"staleness_mean", staleness},
      {"loss", report.loss},
      {"grad_norm", report.grad_norm},
      {"learning_rate", report.learning_rate},
      {"logprob_gap_mean", report.logprob_gap_mean},
      {"logprob_gap_max", report.logprob_gap_max},
      {"logprob_gap_tokens", report.logprob_gap_tokens},
      {"groups_trained", facts.batch.size()},
      {"groups_dropped", facts.dropped.size()},
      {"groups_ready", facts.counts.ready},
      {"groups_running", facts.counts.running},
      {"sequences", report.sequences},
      {"response_tokens", report.response_tokens},
      {"input_tokens", report.input_tokens},
      {"packed_tokens", report.packed_tokens},
      {"samples_collected", window.samples},
      {"accuracy_sampled",
       window.answers ? static_cast<double>(window.correct) / window.answers : 0},
      {"solved_none", window.solved_none},
      {"solved_some", window.solved_some},
      {"solved_all", window.solved_all},
      {"truncated", window.truncated},
      {"truncated_share",
       window.samples ? static_cast<double>(window.truncated) / window.samples : 0},
      {"repetition_share",
       window.samples ? static_cast<double>(window.repeated) / window.samples : 0},
      {"output_tokens_mean",
       window.samples ? static_cast<double>(window.tokens) / window.samples : 0},
      {"samples_dropped", window.dropped_samples},
      {"published_version", facts.published_version},
      {"versions_published", facts.published_count},
      {"phase_seconds", report.phase_seconds},
      {"peak_memory_bytes", ReadProcessMemory().peak_bytes},
      {"skipped", report.skipped},
      {"nonfinite", report.nonfinite},
  };
  if (window.corrections > 0)
    line["accuracy_corrected"] = static_cast<double>(window.corrected) / window.corrections;
  if (report.skipped) line["skip_reason"] = report.skip_reason;
  if (facts.probe_gap) line["probe_gap"] = *facts.probe_gap;
  if (eval_accuracy_) line["eval_accuracy"] = *eval_accuracy_;
  for (const auto& [name, value] : report.metrics) line["policy"][name] = value;
  for (const auto& [name, sum] : window.component_sums) {
    line["reward_components"][name] = sum / static_cast<double>(window.samples);
  }
  return line;
}

void StepRecorder::ExportMetrics(const StepFacts& facts, double reward) {
  step_gauge_.Set(static_cast<double>(facts.report.step));
  last_step_.Set(SystemClock().NowUnixMs() / 1e3);
  reward_gauge_.Set(reward);
  trained_.Add(static_cast<double>(facts.batch.size()));
  dropped_.Add(static_cast<double>(facts.dropped.size()));
  busy_seconds_.Add(facts.report.seconds);
  wait_seconds_.Add(facts.wait_seconds);
  if (facts.probe_gap) probe_gap_.Set(*facts.probe_gap);
  SetIfThere(mismatch_kl_, facts.report.metrics, "mismatch_kl");
  SetIfThere(ess_ratio_, facts.report.metrics, "importance_ess_ratio");
  SetIfThere(chi2_, facts.report.metrics, "importance_chi2");
  for (const auto& [name, sum] : facts.window.component_sums) {
    metrics_.MakeGauge("tramontane_reward_component_mean", {{"component", name}})
        .Set(sum / static_cast<double>(facts.window.samples));
  }
}

void StepRecorder::WriteRollouts(StepFacts facts) {
  // Shared, because std::function wants to be copied.
  auto shared = std::make_shared<StepFacts>(std::move(facts));
  writer_.Do("rollouts", [shared, run_dir = options_.run_dir, run_id = options_.run_id] {
    const int64_t step = shared->report.step;
    JsonLines lines;
    for (const ReadyGroup& ready : shared->batch) {
      for (const Rollout& rollout : ready.group.rollouts) {
        lines.Add(RolloutLine(ready.group, rollout, run_id, step, "trained"));
      }
    }
    for (const DroppedGroup& dropped : shared->dropped) {
      if (!dropped.group) continue;
      for (const Rollout& rollout : dropped.group->rollouts) {
        lines.Add(RolloutLine(*dropped.group, rollout, run_id, step, dropped.reason));
      }
    }
    return lines.Write(RolloutsPath(run_dir, step, "train"));
  });
}

void StepRecorder::RecordEval(EvalResult result) {
  eval_accuracy_ = result.accuracy;
  if (!first_eval_accuracy_) first_eval_accuracy_ = result.accuracy;
  accuracy_gauge_.Set(result.accuracy);
  const Json line = {{"event", "eval"},
                     {"step", result.step},
                     {"version", result.step},
                     {"accuracy", result.accuracy},
                     {"reward_mean", result.reward_mean},
                     {"rows", result.rows},
                     {"invalid", result.invalid},
                     {"version_min", result.version_min},
                     {"version_max", result.version_max},
                     {"elapsed_s", elapsed_s()},
                     {"seconds", result.seconds}};
  Append(line);
  events_.Emit(line);
  auto shared = std::make_shared<EvalResult>(std::move(result));
  writer_.Do("eval rollouts", [shared, run_dir = options_.run_dir, run_id = options_.run_id] {
    JsonLines lines;
    for (const Group& group : shared->groups) {
      for (const Rollout& rollout : group.rollouts) {
        lines.Add(RolloutLine(group, rollout, run_id, shared->step, "evaluated"));
      }
    }
    return lines.Write(RolloutsPath(run_dir, shared->step, "eval"));
  });
}

void StepRecorder::Append(const Json& line) {
  writer_.Do("metrics.jsonl", [line, path = options_.run_dir + "/metrics.jsonl"] {
    JsonLines lines;
    lines.Add(line);
    return lines.AppendTo(path);
  });
}

}  // namespace tramontane
