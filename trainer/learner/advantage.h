// Rewards to advantages: filter, baseline, scale, sign. Pure functions in float64, torch-free.
//
// Order: `truncated` filter → zero-variance filter → baseline → scale → sign. Statistics are taken
// over the members that are left; a group of one is never "zero variance", conventions.
// singleton_group says what becomes of it.
//
//   baseline  none 0 | group_mean r̄ | length_weighted_mean Σ|y|r/Σ|y| | leave_one_out mean of the
//   others
//             | value: one advantage a token (trainer/learner/gae.h). Under opmd with log_z
//             logsumexp the group's mean is τ·log mean exp(r/τ).
//   scale     group_std: of the group's rewards | minibatch_std: of a minibatch's advantages |
//   batch_std: of the
//             rewards, across groups | token_whiten: advantages centred and scaled, each token
//             counting once. Observations of minibatch_std are sequences, or tokens (conventions,
//             and always with baseline value).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

// One entry per sequence; all vectors are of one length, but the optional ones may be empty.
struct AdvantageInput {
  std::vector<int64_t> group;      // any ids; equal ids are one group
  std::vector<double> reward;      // final, shaped
  std::vector<int64_t> tokens;     // sampled tokens (mask 1)
  std::vector<uint8_t> truncated;  // needed unless filter.truncated is keep
  std::vector<uint8_t> correct;    // needed when filter.on is accuracy
  std::vector<uint8_t> masked;     // in all statistics, with advantage 0 in the end; empty: none
  // Which of the step's minibatches each sequence is in, whole groups; empty: one. Read by
  // minibatch_std.
  std::vector<int64_t> minibatch;
  // Per sampled token, sequences back to back (Σ tokens entries); baseline value alone reads
  // `value`.
  std::vector<double> value;
  std::vector<double> token_reward;  // besides `reward`, which is earned at the last; empty: none.
                                     // Without values it is added to its token's advantage
};

struct AdvantageResult {
  std::vector<double> advantage;  // per sequence; 0 where dropped or masked; of values, the mean
  std::vector<uint8_t> kept;      // 0: dropped: in no statistic, no loss term, no denominator
  // Per sampled token, for baseline value and with token rewards; else empty. Targets are values'
  // alone.
  // What is left out of the statistics asks nothing of the critic: its target is its own value.
  std::vector<double> token_advantage, value_target;
  int64_t groups = 0;
  int64_t zero_variance_groups = 0;  // dropped by filter.zero_variance
  int64_t truncated_sequences = 0;   // touched by filter.truncated
  int64_t singleton_groups = 0;
};

// InvalidArgument when an input that a knob needs is missing.
absl::StatusOr<AdvantageResult> ComputeAdvantages(const AdvantageInput& input,
                                                  const AlgorithmConfig& algorithm);

// For objective nll (RAFT): a sequence without a positive advantage is not imitated, and leaves the
// denominators too, so that the loss is the SFT loss of the others.
void KeepPositive(AdvantageResult& result);

}  // namespace tramontane
