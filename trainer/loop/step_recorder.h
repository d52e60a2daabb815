// Turns what happened in a step into the places people look at: one event for the live line, one
// line of metrics.jsonl, the rollout files and the Prometheus metrics. The learner's thread calls
// it.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "common/rollout.h"
#include "trainer/learner/learner.h"
#include "trainer/loop/background_writer.h"
#include "trainer/loop/collection_window.h"
#include "trainer/loop/evaluation.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {

struct StepFacts {
  StepReport report;
  std::vector<ReadyGroup> batch;
  std::vector<DroppedGroup> dropped;  // since the step before
  WindowTotals window;
  BookCounts counts;
  int64_t version_before = 0;  // that the batch was trained from
  int64_t epoch = 0;
  int64_t published_version = -1, published_count = 0;
  std::optional<double> probe_gap;  // WeightPublisher::ProbeGap
  double wait_seconds = 0;
  double redis_down_seconds = 0;
};

class StepRecorder {
 public:
  struct Options {
    std::string run_dir, run_id;
    int64_t max_steps = 0;
    // What earlier processes of this run brought (trainer/loop/recovery.h).
    double elapsed_before_s = 0;
    int64_t tokens_before = 0;
    std::vector<double> recent_rewards;
  };
  StepRecorder(Options options, Events& events, BackgroundWriter& writer, MetricsRegistry& metrics);

  void StartClock();  // generation starts to count from here
  Json Record(StepFacts facts);  // the step's line of metrics.jsonl
  void RecordEval(EvalResult result);
  void Append(const Json& line);  // one line of metrics.jsonl

  double elapsed_s() const;
  int64_t generated_tokens() const { return options_.tokens_before + tokens_; }
  double TokensPerSecondOverall() const;
  std::vector<double> recent_rewards() const { return {recent_.begin(), recent_.end()}; }
  double Reward10() const;
  std::optional<double> eval_accuracy() const { return eval_accuracy_; }
  std::optional<double> first_eval_accuracy() const { return first_eval_accuracy_; }
  double last_reward() const { return last_reward_; }
  double last_staleness() const { return last_staleness_; }
  double mean_staleness() const { return staleness_count_ ? staleness_sum_ / staleness_count_ : 0; }
  double largest_logprob_gap() const { return largest_gap_; }

 private:
  static constexpr size_t kRecent = 10;

  double RecentTokensPerSecond() const;
  double TakeStaleness(const StepFacts& facts);
  Json StepLine(const StepFacts& facts, double reward, double staleness) const;
  void ExportMetrics(const StepFacts& facts, double reward);
  void WriteRollouts(StepFacts facts);

  const Options options_;
  Events& events_;
  BackgroundWriter& writer_;
  MetricsRegistry& metrics_;
  Gauge step_gauge_, last_step_, reward_gauge_, accuracy_gauge_, probe_gap_;
  Gauge mismatch_kl_, ess_ratio_, chi2_;
  Counter trained_, dropped_, busy_seconds_, wait_seconds_;
  Histogram staleness_trained_, tokens_trained_;

  std::chrono::steady_clock::time_point start_, last_step_at_;
  int64_t tokens_ = 0;
  struct Mark {
    double elapsed_s;
    int64_t tokens;
  };
  std::deque<Mark> marks_;  // the last steps, for the recent rate
  std::deque<double> recent_;
  std::optional<double> eval_accuracy_, first_eval_accuracy_;
  double last_reward_ = 0, last_staleness_ = 0, staleness_sum_ = 0, largest_gap_ = 0;
  int64_t staleness_count_ = 0;
};

}  // namespace tramontane
