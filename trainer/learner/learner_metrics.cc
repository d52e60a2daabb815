#include "trainer/learner/learner_metrics.h"

#include <algorithm>
#include <cmath>

#include "common/log.h"

namespace tramontane {

void ReportSums(const MicrobatchOutput& total, const AlgorithmConfig& algorithm,
                StepReport& report) {
  const LossSums& sums = total.sums;
  const double tokens = std::max(sums.tokens, 1.0);
  std::map<std::string, double>& metrics = report.metrics;
  metrics["neg_logprob"] = sums.negative_logprob / tokens;
  if (algorithm.kl.kind != "none" && algorithm.kl.where == "loss") metrics["kl"] = sums.kl / tokens;
  if (algorithm.objective.kind != "nll" && algorithm.objective.kind != "opmd" &&
      algorithm.objective.ratio != "none") {
    metrics["ratio_mean"] = sums.ratio / tokens;
    metrics["ratio_max"] = sums.ratio_max;
    metrics["clip_low"] = sums.clipped_low / tokens;
    metrics["clip_high"] = sums.clipped_high / tokens;
    metrics["anchor_kl"] = sums.anchor_kl / tokens;
  }
  if (algorithm.entropy.kind != "none") metrics["entropy"] = sums.entropy / tokens;
  if (algorithm.correction.kind != "none") {
    metrics["corrected"] = sums.corrected / tokens;
    metrics["correction_mean"] = sums.correction / tokens;
  }
  metrics["mtp_loss"] = total.mtp_loss;
  if (total.routes.replayed > 0) {
    metrics["router_disagreement"] =
        static_cast<double>(total.routes.differing) / static_cast<double>(total.routes.replayed);
  }
  metrics["forward_core_seconds"] = total.forward_seconds;
  metrics["backward_core_seconds"] = total.backward_seconds;

  report.logprob_gap_tokens = total.gap.tokens;
  report.logprob_gap_mean =
      total.gap.sum / std::max<double>(static_cast<double>(total.gap.tokens), 1);
  report.logprob_gap_max = total.gap.max;
  const double stale_tokens = static_cast<double>(total.gap_stale_kv.tokens);
  metrics["logprob_gap_stale_kv_tokens"] = stale_tokens;
  metrics["logprob_gap_stale_kv_mean"] = total.gap_stale_kv.sum / std::max(stale_tokens, 1.0);
  metrics["logprob_gap_stale_kv_max"] = total.gap_stale_kv.max;
  if (total.mismatch.tokens() > 0) {
    metrics["mismatch_kl"] = total.mismatch.kl();
    metrics["importance_ess_ratio"] = total.mismatch.effective_sample_ratio();
    metrics["importance_chi2"] = total.mismatch.chi_squared();
  }
}

void ReportAdvantages(const CollectedRows& collected, const AdvantageResult& advantages,
                      StepReport& report) {
  double rewards = 0, count = 0, sum = 0, absolute = 0, squares = 0;
  for (size_t i = 0; i < collected.rows.size(); ++i) {
    rewards += collected.rows[i].reward;
    if (!advantages.kept[i]) continue;
    const double a = advantages.advantage[i];
    count += 1;
    sum += a;
    absolute += std::abs(a);
    squares += a * a;
  }
  count = std::max(count, 1.0);
  std::map<std::string, double>& metrics = report.metrics;
  metrics["reward_mean"] = rewards / std::max(static_cast<double>(collected.rows.size()), 1.0);
  metrics["advantage_mean"] = sum / count;
  metrics["advantage_abs_mean"] = absolute / count;
  metrics["advantage_std"] = std::sqrt(std::max(squares / count - std::pow(sum / count, 2), 0.0));
  metrics["groups"] = static_cast<double>(advantages.groups);
  metrics["zero_variance_groups"] = static_cast<double>(advantages.zero_variance_groups);
  metrics["truncated_sequences"] = static_cast<double>(advantages.truncated_sequences);
  metrics["masked_sequences"] = static_cast<double>(
      std::ranges::count_if(collected.rows, [](const TrainRow& row) { return row.masked; }));
  metrics["old_tokens"] = static_cast<double>(collected.old_tokens);
  metrics["without_score"] = static_cast<double>(collected.without_score);
  metrics["nonfinite_logprobs"] = static_cast<double>(collected.nonfinite_logprobs);
}

void ReportState(const AlgorithmConfig& applied, const LearnerState& state, bool has_reference,
                 StepReport& report) {
  if (applied.entropy.kind != "none")
    report.metrics["entropy_coefficient"] = applied.entropy.coefficient;
  if (has_reference)
    report.metrics["reference_version"] = static_cast<double>(state.reference_version);
}

void ReportCritic(const CriticReport& critic, StepReport& report) {
  std::map<std::string, double>& metrics = report.metrics;
  metrics["value_loss"] = critic.value_loss;
  metrics["value_explained_variance"] = critic.explained_variance;
  metrics["value_mean"] = critic.value_mean;
  metrics["value_target_mean"] = critic.target_mean;
  metrics["critic_updates"] = static_cast<double>(critic.updates);
  if (std::isfinite(critic.grad_norm)) metrics["critic_grad_norm"] = critic.grad_norm;
  if (critic.nonfinite == 0) return;
  report.nonfinite = true;
  if (report.skip_reason.empty())
    report.skip_reason = "the critic's loss or gradient is not finite";
}

void WarnOfGap(double alarm, StepReport& report) {
  if (report.logprob_gap_tokens == 0 || report.logprob_gap_max <= alarm) return;
  report.metrics["logprob_gap_alarm"] = 1;
  LogWarn("logprob_gap", {{"step", report.step},
                          {"largest", report.logprob_gap_max},
                          {"mean", report.logprob_gap_mean},
                          {"tokens", report.logprob_gap_tokens},
                          {"alarm", alarm}});
}

LearnerMetrics::LearnerMetrics(MetricsRegistry& registry)
    : registry_(registry),
      loss_(registry.MakeGauge("tramontane_trainer_loss")),
      grad_norm_(registry.MakeGauge("tramontane_trainer_grad_norm")),
      learning_rate_(registry.MakeGauge("tramontane_trainer_learning_rate")),
      clip_low_(registry.MakeGauge("tramontane_trainer_clip_ratio", {{"side", "low"}})),
      clip_high_(registry.MakeGauge("tramontane_trainer_clip_ratio", {{"side", "high"}})),
      ratio_mean_(
          registry.MakeGauge("tramontane_trainer_importance_ratio", {{"statistic", "mean"}})),
      ratio_max_(registry.MakeGauge("tramontane_trainer_importance_ratio", {{"statistic", "max"}})),
      entropy_estimate_(registry.MakeGauge("tramontane_trainer_entropy")),
      kl_(registry.MakeGauge("tramontane_trainer_kl")),
      entropy_coefficient_(registry.MakeGauge("tramontane_trainer_entropy_coefficient")),
      reference_bytes_(registry.MakeGauge("tramontane_trainer_reference_bytes")),
      reference_version_(registry.MakeGauge("tramontane_trainer_reference_version")),
      value_loss_(registry.MakeGauge("tramontane_trainer_value_loss")),
      explained_variance_(registry.MakeGauge("tramontane_trainer_value_explained_variance")),
      critic_bytes_(registry.MakeGauge("tramontane_trainer_critic_bytes")),
      moment_bytes_(
          registry.MakeGauge("tramontane_trainer_optimiser_bytes", {{"kind", "moments"}})),
      gradient_bytes_(
          registry.MakeGauge("tramontane_trainer_optimiser_bytes", {{"kind", "gradients"}})),
      ranks_(registry.MakeGauge("tramontane_trainer_ranks")),
      model_flop_share_(registry.MakeGauge("tramontane_trainer_model_flop_share")),
      model_flop_(registry.MakeCounter("tramontane_trainer_model_flop_total")),
      rank_seconds_(registry.MakeCounter("tramontane_trainer_rank_seconds_total")),
      rank_bytes_(registry.MakeCounter("tramontane_trainer_rank_bytes_total")),
      gap_mean_(registry.MakeGauge("tramontane_trainer_logprob_gap", {{"statistic", "mean"}})),
      gap_max_(registry.MakeGauge("tramontane_trainer_logprob_gap", {{"statistic", "max"}})),
      router_disagreement_(registry.MakeGauge("tramontane_trainer_router_disagreement")),
      mtp_loss_(registry.MakeGauge("tramontane_trainer_mtp_loss")),
      gap_alarms_(registry.MakeCounter("tramontane_trainer_logprob_gap_alarms_total")),
      nonfinite_steps_(registry.MakeCounter("tramontane_trainer_nonfinite_steps_total")),
      response_tokens_(
          registry.MakeCounter("tramontane_trainer_tokens_total", {{"kind", "response"}})),
      input_tokens_(registry.MakeCounter("tramontane_trainer_tokens_total", {{"kind", "input"}})),
      packed_tokens_(registry.MakeCounter("tramontane_trainer_tokens_total", {{"kind", "packed"}})),
      sequences_(registry.MakeCounter("tramontane_trainer_sequences_total")) {}

void LearnerMetrics::SetReferenceBytes(int64_t bytes) {
  reference_bytes_.Set(static_cast<double>(bytes));
}

void LearnerMetrics::SetCriticBytes(int64_t bytes) {
  critic_bytes_.Set(static_cast<double>(bytes));
}

void LearnerMetrics::SetOptimiserBytes(int64_t moments, int64_t gradients) {
  moment_bytes_.Set(static_cast<double>(moments));
  gradient_bytes_.Set(static_cast<double>(gradients));
}

void LearnerMetrics::SetRanks(int ranks) { ranks_.Set(ranks); }

void LearnerMetrics::Set(Gauge& gauge, const StepReport& report, const std::string& name) {
  const auto found = report.metrics.find(name);
  if (found != report.metrics.end()) gauge.Set(found->second);
}

void LearnerMetrics::Record(const StepReport& report) {
  for (const auto& [phase, seconds] : report.phase_seconds) {
    if (!phases_.contains(phase)) {
      phases_[phase] =
          registry_.MakeHistogram("tramontane_trainer_step_seconds", {{"phase", phase}});
    }
    phases_[phase].Observe(seconds);
  }
  if (report.metrics.contains("logprob_gap_alarm")) gap_alarms_.Add();
  if (const auto found = report.metrics.find("rank_seconds"); found != report.metrics.end()) {
    rank_seconds_.Add(found->second);
    rank_bytes_.Add(report.metrics.at("rank_bytes"));
  }
  Set(value_loss_, report, "value_loss");
  Set(explained_variance_, report, "value_explained_variance");
  if (report.nonfinite) nonfinite_steps_.Add();
  if (report.skipped) return;
  loss_.Set(report.loss);
  grad_norm_.Set(report.grad_norm);
  learning_rate_.Set(report.learning_rate);
  Set(clip_low_, report, "clip_low");
  Set(clip_high_, report, "clip_high");
  Set(ratio_mean_, report, "ratio_mean");
  Set(ratio_max_, report, "ratio_max");
  Set(entropy_estimate_, report, "neg_logprob");
  Set(kl_, report, "kl");
  Set(entropy_coefficient_, report, "entropy_coefficient");
  Set(reference_version_, report, "reference_version");
  Set(model_flop_share_, report, "model_flop_share");
  model_flop_.Add(report.metrics.at("model_flop"));
  Set(mtp_loss_, report, "mtp_loss");
  Set(router_disagreement_, report, "router_disagreement");
  // A batch without tokens of the current version says nothing of the gap.
  if (report.logprob_gap_tokens > 0) {
    gap_mean_.Set(report.logprob_gap_mean);
    gap_max_.Set(report.logprob_gap_max);
  }
  response_tokens_.Add(static_cast<double>(report.response_tokens));
  input_tokens_.Add(static_cast<double>(report.input_tokens));
  packed_tokens_.Add(static_cast<double>(report.packed_tokens));
  sequences_.Add(static_cast<double>(report.sequences));
}

}  // namespace tramontane
