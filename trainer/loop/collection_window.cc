#include "trainer/loop/collection_window.h"

#include <utility>

#include "common/layers.h"

namespace tramontane {

CollectionWindow::CollectionWindow(MetricsRegistry& metrics)
    : metrics_(metrics),
      collected_(metrics.MakeCounter("tramontane_groups_total", {{"event", "collected"}})),
      none_(metrics.MakeCounter("tramontane_group_outcomes_total", {{"outcome", "none"}})),
      some_(metrics.MakeCounter("tramontane_group_outcomes_total", {{"outcome", "some"}})),
      all_(metrics.MakeCounter("tramontane_group_outcomes_total", {{"outcome", "all"}})),
      dispatched_tokens_(
          metrics.MakeHistogram("tramontane_output_tokens", {{"set", "dispatched"}})),
      collected_tokens_(metrics.MakeHistogram("tramontane_output_tokens", {{"set", "collected"}})) {
  for (size_t i = 0; i < corrections_.size(); ++i) {
    corrections_[i] = metrics.MakeCounter("tramontane_corrections_total",
                                          {{"answer", i / 2 == 1 ? "right" : "wrong"},
                                           {"correction", i % 2 == 1 ? "right" : "wrong"}});
  }
}

void CollectionWindow::AddCorrections(const Group& group) {
  std::map<int32_t, bool> right;  // answers that are still in the group
  for (const Rollout& rollout : group.rollouts)
    if (!IsCorrection(group.task, rollout.sample_index))
      right[rollout.sample_index] = rollout.verdict.correct;
  for (const Rollout& rollout : group.rollouts) {
    if (!IsCorrection(group.task, rollout.sample_index)) continue;
    ++window_.corrections;
    window_.corrected += rollout.verdict.correct ? 1 : 0;
    const auto answer = right.find(AnswerOf(group.task, rollout.sample_index));
    if (answer == right.end()) continue;
    corrections_[(answer->second ? 2 : 0) + (rollout.verdict.correct ? 1 : 0)].Add();
  }
}

void CollectionWindow::AddReturned(const Group& group) {
  for (const Rollout& rollout : group.rollouts) {
    dispatched_tokens_.Observe(static_cast<double>(rollout.tokens.size()));
  }
}

void CollectionWindow::AddGroup(const Group& group, const std::map<std::string, int64_t>& removed) {
  collected_.Add();
  std::lock_guard lock(mutex_);
  ++window_.groups;
  int64_t answers = 0, correct = 0;
  AddCorrections(group);
  for (const Rollout& rollout : group.rollouts) {
    const auto tokens = static_cast<int64_t>(rollout.tokens.size());
    ++window_.samples;
    window_.tokens += tokens;
    total_tokens_ += tokens;
    window_.truncated += rollout.finish_reason == FinishReason::kLength ? 1 : 0;
    window_.repeated += rollout.finish_reason == FinishReason::kRepetition ? 1 : 0;
    window_.reward_sum += rollout.verdict.score.value_or(0);
    if (!IsCorrection(group.task, rollout.sample_index)) {
      ++answers;
      correct += rollout.verdict.correct ? 1 : 0;
    }
    for (const auto& [name, value] : rollout.verdict.components)
      window_.component_sums[name] += value;
    collected_tokens_.Observe(static_cast<double>(tokens));
  }
  window_.answers += answers;
  window_.correct += correct;
  if (correct == 0) {
    ++window_.solved_none;
    none_.Add();
  } else if (correct == answers) {
    ++window_.solved_all;
    all_.Add();
  } else {
    ++window_.solved_some;
    some_.Add();
  }
  for (const auto& [reason, samples] : removed) {
    window_.dropped_samples[reason] += samples;
    metrics_.MakeCounter("tramontane_samples_dropped_total", {{"reason", reason}})
        .Add(static_cast<double>(samples));
  }
}

void CollectionWindow::AddDropped(const std::string& reason, int64_t samples) {
  if (samples == 0) return;
  metrics_.MakeCounter("tramontane_samples_dropped_total", {{"reason", reason}})
      .Add(static_cast<double>(samples));
  std::lock_guard lock(mutex_);
  window_.dropped_samples[reason] += samples;
}

int64_t CollectionWindow::total_tokens() const {
  std::lock_guard lock(mutex_);
  return total_tokens_;
}

WindowTotals CollectionWindow::Take() {
  std::lock_guard lock(mutex_);
  return std::exchange(window_, {});
}

}  // namespace tramontane
