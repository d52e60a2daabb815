// Rewards to advantages: filter, baseline, scale, sign. Pure functions in float64, torch-free.
//
// Order: `truncated` filter → zero-variance filter → baseline → scale → sign. Statistics are taken
// over the members that are left; a group of one is never "zero variance", conventions.
// singleton_group says what becomes of it.
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
};

struct AdvantageResult {
  std::vector<double> advantage;  // per sequence; 0 where dropped or masked
  std::vector<uint8_t> kept;      // 0: dropped: in no statistic, no loss term, no denominator
  int64_t groups = 0;
  int64_t zero_variance_groups = 0;  // dropped by filter.zero_variance
  int64_t truncated_sequences = 0;   // touched by filter.truncated
  int64_t singleton_groups = 0;
};

// InvalidArgument when an input that a knob needs is missing; Unimplemented for baseline value.
absl::StatusOr<AdvantageResult> ComputeAdvantages(const AdvantageInput& input, const AdvantageConfig& advantage,
                                                  const ConventionsConfig& conventions,
                                                  const FilterConfig& filter);

// For objective nll (RAFT): a sequence without a positive advantage is not imitated, and leaves the
// denominators too, so that the loss is the SFT loss of the others.
void KeepPositive(AdvantageResult& result);

}  // namespace tramontane
