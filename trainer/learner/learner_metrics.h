// What the learner reports of a step: names of StepReport::metrics, and the Prometheus series.
#pragma once

#include <map>
#include <string>

#include "common/metrics.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/critic.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/learner_state.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/train_rows.h"

namespace tramontane {

// metrics: clip_low, clip_high (shares of tokens), ratio_mean, ratio_max, anchor_kl,
// neg_logprob (−mean log π of the sampled tokens: a sampled estimate of the entropy), entropy (only
// if computed), kl, corrected, correction_mean, forward_core_seconds, backward_core_seconds,
// logprob_gap_stale_kv_{mean,max,tokens}; mismatch_kl, importance_ess_ratio, importance_chi2
// (trainer/learner/mismatch.h; only when a generator sampled tokens of the batch);
// router_disagreement (only with router replay); mtp_loss (0 unless trainer.mtp_weight is above 0);
// and the gap fields.
void ReportSums(const MicrobatchOutput& total, const AlgorithmConfig& algorithm,
                StepReport& report);

// metrics: reward_mean, advantage_{mean,std,abs_mean} over kept rows, groups, zero_variance_groups,
// truncated_sequences, masked_sequences, old_tokens, without_score, nonfinite_logprobs.
void ReportAdvantages(const CollectedRows& collected, const AdvantageResult& advantages,
                      StepReport& report);

// metrics: entropy_coefficient (as applied, only with an entropy bonus), reference_version (only
// with a reference model).
void ReportState(const AlgorithmConfig& applied, const LearnerState& state, bool has_reference,
                 StepReport& report);

// metrics: value_loss, value_explained_variance, value_mean, value_target_mean, critic_grad_norm,
// critic_updates. An update of the critic that was not finite makes the report nonfinite.
void ReportCritic(const CriticReport& critic, StepReport& report);

// Says in the log, and by metrics["logprob_gap_alarm"], that the largest gap is above `alarm` nats.
void WarnOfGap(double alarm, StepReport& report);

class LearnerMetrics {
 public:
  explicit LearnerMetrics(MetricsRegistry& registry);
  void SetReferenceBytes(int64_t bytes);
  void SetCriticBytes(int64_t bytes);
  void SetOptimiserBytes(int64_t moments, int64_t gradients);
  void SetRanks(int ranks);
  void Record(const StepReport& report);

 private:
  void Set(Gauge& gauge, const StepReport& report, const std::string& name);

  MetricsRegistry& registry_;
  std::map<std::string, Histogram> phases_;
  Gauge loss_, grad_norm_, learning_rate_, clip_low_, clip_high_, ratio_mean_, ratio_max_,
      entropy_estimate_;
  Gauge kl_, entropy_coefficient_, reference_bytes_, reference_version_;
  Gauge value_loss_, explained_variance_, critic_bytes_;
  Gauge moment_bytes_, gradient_bytes_, ranks_;
  Gauge model_flop_share_;
  Counter model_flop_, rank_seconds_, rank_bytes_;
  Gauge gap_mean_, gap_max_, router_disagreement_, mtp_loss_;
  Counter gap_alarms_, nonfinite_steps_, response_tokens_, input_tokens_, packed_tokens_,
      sequences_;
};

}  // namespace tramontane
