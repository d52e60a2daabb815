#include "common/algorithm_rules.h"

#include <string>

#include "common/config_rules.h"

namespace tramontane {
namespace {

using A = AlgorithmConfig;

bool Positive(const std::optional<double>& value) { return value && *value > 0; }
bool Rejects(const A& a) {
  return a.correction.kind == "mask" || a.correction.kind == "geometric_reject";
}

const AlgorithmRule kRules[] = {
    // --- advantage
    {"positive_only_is_not_scaled", "algorithm.advantage.sign",
     "positive_only cannot be combined with scaling by a deviation: half of what it is taken over "
     "is cut off",
     [](const A& a) { return a.advantage.sign != "positive_only" || a.advantage.scale == "none"; }},
    {"alpha_needs_values", "algorithm.advantage.alpha",
     "a length-adaptive λ needs baseline value, and alpha above 0",
     [](const A& a) {
       return !a.advantage.alpha || (a.advantage.baseline == "value" && *a.advantage.alpha > 0);
     }},
    // --- objective
    {"ppo_clip_needs_a_ratio", "algorithm.objective.ratio",
     "ppo_clip needs a token or sequence ratio",
     [](const A& a) { return a.objective.kind != "ppo_clip" || a.objective.ratio != "none"; }},
    {"cispo_needs_a_ratio", "algorithm.objective.ratio", "cispo needs a token or sequence ratio",
     [](const A& a) { return a.objective.kind != "cispo" || a.objective.ratio != "none"; }},
    {"sequence_ratio_needs_sequence_mean", "algorithm.objective.ratio",
     "a sequence ratio needs a sequence aggregation (seq_mean_token_mean or seq_mean_token_sum)",
     [](const A& a) {
       return a.objective.ratio != "sequence" || a.aggregation.mode.starts_with("seq_mean");
     }},
    {"dual_clip_is_above_one", "algorithm.objective.dual_clip", "must be above 1",
     [](const A& a) { return !a.objective.dual_clip || *a.objective.dual_clip > 1; }},
    {"ratio_cap_is_above_one", "algorithm.objective.ratio_cap", "must be above 1: ρ is 1 on policy",
     [](const A& a) { return !a.objective.ratio_cap || *a.objective.ratio_cap > 1; }},
    {"opmd_needs_tau", "algorithm.objective.tau", "opmd needs a positive temperature",
     [](const A& a) { return a.objective.kind != "opmd" || Positive(a.objective.tau); }},
    {"opmd_reference_is_iterate", "algorithm.kl.reference", "opmd fixes the reference to 'iterate'",
     [](const A& a) { return a.objective.kind != "opmd" || a.kl.reference == "iterate"; }},
    {"opmd_is_one_number_a_sequence", "algorithm.aggregation.mode",
     "opmd's loss is one number a sequence: aggregate by seq_mean_token_mean",
     [](const A& a) {
       return a.objective.kind != "opmd" || a.aggregation.mode == "seq_mean_token_mean";
     }},
    {"opmd_compares_rewards_with_their_normaliser", "algorithm.advantage.baseline",
     "opmd needs baseline group_mean and scale none: τ weighs the reward against the log-ratio",
     [](const A& a) {
       return a.objective.kind != "opmd" ||
              (a.advantage.baseline == "group_mean" && a.advantage.scale == "none");
     }},
    {"sequence_objectives_need_sequence_advantages", "algorithm.advantage.baseline",
     "nll and opmd weigh whole sequences, value gives one advantage a token",
     [](const A& a) {
       return a.advantage.baseline != "value" ||
              (a.objective.kind != "nll" && a.objective.kind != "opmd");
     }},
    // --- aggregation
    {"constant_is_given", "algorithm.aggregation.constant",
     "is needed with token_sum_const, and above 0",
     [](const A& a) {
       return a.aggregation.mode != "token_sum_const" || Positive(a.aggregation.constant);
     }},
    // --- kl
    {"reset_needs_an_interval", "algorithm.kl.reset_interval_steps",
     "reset_every_n needs n, at least 1",
     [](const A& a) {
       return a.kl.reference != "reset_every_n" || a.kl.reset_interval_steps >= 1;
     }},
    {"full_kl_needs_a_copy", "algorithm.kl.reference",
     "full compares whole distributions, and of the sampling policy only the sampled tokens are "
     "known",
     [](const A& a) { return a.kl.kind != "full" || a.kl.reference != "iterate"; }},
    {"token_advantages_are_score_functions", "algorithm.kl.where",
     "token_advantage needs an estimate (k1, k2 or k3), objective ppo_clip, pg or cispo, and a "
     "baseline other than value",
     [](const A& a) {
       return a.kl.where != "token_advantage" ||
              (a.kl.kind != "full" && a.objective.kind != "nll" && a.objective.kind != "opmd" &&
               a.advantage.baseline != "value");
     }},
    {"something_is_taught", "algorithm.advantage.reward_weight",
     "0 takes the reward away: a kl.kind has to teach, and zero_variance must be keep",
     [](const A& a) {
       return a.advantage.reward_weight > 0 ||
              (a.kl.kind != "none" && a.kl.coefficient > 0 && a.filter.zero_variance == "keep");
     }},
    // --- correction
    {"behaviour_is_not_divided_by_twice", "algorithm.correction.kind",
     "with anchor behaviour the ratio already divides by the behaviour policy; use anchor "
     "recomputed, or "
     "objective.ratio none",
     [](const A& a) {
       return a.correction.kind == "none" || a.correction.anchor == "recomputed" ||
              (a.objective.ratio == "none" && a.objective.kind != "opmd");
     }},
    {"truncate_needs_a_cap", "algorithm.correction.cap", "is needed with truncate, and above 0",
     [](const A& a) { return a.correction.kind != "truncate" || Positive(a.correction.cap); }},
    {"rejection_needs_a_bound", "algorithm.correction.high",
     "mask and geometric_reject need low or high",
     [](const A& a) { return !Rejects(a) || a.correction.low || a.correction.high; }},
    {"rejection_bounds_are_ordered", "algorithm.correction.low", "must not be above high",
     [](const A& a) {
       return !a.correction.low || !a.correction.high || *a.correction.low <= *a.correction.high;
     }},
    // --- entropy
    {"adaptive_entropy_has_a_target", "algorithm.entropy.target",
     "adaptive needs target, and a step above 0",
     [](const A& a) {
       return a.entropy.kind != "adaptive" || (a.entropy.target && Positive(a.entropy.step));
     }},
    {"adaptive_entropy_is_bounded", "algorithm.entropy.max",
     "adaptive needs max, and min (0 if not given) ≤ coefficient ≤ max",
     [](const A& a) {
       return a.entropy.kind != "adaptive" ||
              (a.entropy.max && a.entropy.min.value_or(0) <= a.entropy.coefficient &&
               a.entropy.coefficient <= *a.entropy.max);
     }},
    // --- auxiliary
    {"value_loss_needs_values", "algorithm.auxiliary.value_coefficient",
     "a value loss needs advantage.baseline value",
     [](const A& a) {
       return a.auxiliary.value_coefficient == 0 || a.advantage.baseline == "value";
     }},
    {"value_clip_needs_a_value_loss", "algorithm.auxiliary.value_clip",
     "needs value_coefficient, and must be above 0",
     [](const A& a) {
       return !a.auxiliary.value_clip ||
              (a.auxiliary.value_coefficient > 0 && *a.auxiliary.value_clip > 0);
     }},
    // --- filter
    {"masked_samples_have_an_advantage", "algorithm.filter.gibberish",
     "gibberish and repetition can be masked by advantages alone, and opmd and values ask more of "
     "a "
     "sample than its advantage: use drop",
     [](const A& a) {
       const bool masks = (a.filter.gibberish == "mask" && a.filter.gibberish_token_min) ||
                          (a.filter.repetition == "mask" && a.filter.repetition_window > 0);
       return !masks || (a.objective.kind != "opmd" && a.advantage.baseline != "value");
     }},
    {"accept_window_is_ordered", "algorithm.filter.accept_low",
     "accept_low and accept_high are shares with 0 ≤ low ≤ high ≤ 1",
     [](const A& a) {
       const double low = a.filter.accept_low.value_or(0), high = a.filter.accept_high.value_or(1);
       return 0 <= low && low <= high && high <= 1;
     }},
};

}  // namespace

std::span<const AlgorithmRule> AlgorithmRules() { return kRules; }

absl::Status CheckAlgorithmRules(const AlgorithmConfig& algorithm) {
  return CheckRules(kRules, algorithm);
}

absl::Status CheckRunnable(const AlgorithmConfig& a) {
  if (a.advantage.baseline == "value" && a.auxiliary.value_coefficient <= 0) {
    return absl::InvalidArgumentError(
        "algorithm.auxiliary.value_coefficient: must be above 0 with baseline value, or the critic "
        "would never learn (rule critic_learns)");
  }
  if (a.kl.kind != "none" && a.kl.where == "reward" && a.filter.zero_variance == "drop" &&
      a.filter.on == "reward") {
    return absl::InvalidArgumentError(
        "algorithm.filter.on: groups are filtered before the learner takes KL off their rewards; "
        "use accuracy, or "
        "zero_variance keep (rule filter_sees_the_final_reward)");
  }
  return absl::OkStatus();
}

}  // namespace tramontane
