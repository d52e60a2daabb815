// Two verifiers' verdicts on the same rollouts: how often they differ, and by how much; and, where
// the second judges a share of the groups, what each gives on average. A version is looked at this
// way before it judges all. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "common/metrics.h"
#include "common/rollout.h"

namespace tramontane {

class ShadowComparison {
 public:
  ShadowComparison(const std::string& verifier, const std::string& shadow,
                   MetricsRegistry& metrics);

  void Compare(const Verdict& primary, const Verdict& shadow);
  // A verdict that counts, on a group that went to the shadow as a canary or to the primary.
  void Count(bool canary, const Verdict& verdict);
  Json State() const;

 private:
  const std::string shadow_;
  Counter same_, differs_, unscored_;
  mutable std::mutex mutex_;
  int64_t compared_ = 0, differing_ = 0, skipped_ = 0;
  // Of rollouts that both scored: shadow minus primary.
  double difference_sum_ = 0, largest_difference_ = 0;
  int64_t correct_differs_ = 0;
  struct Tally {
    int64_t scored = 0, unscored = 0;
    double sum = 0;
    Json State() const;
  };
  Tally canary_, current_;
};

}  // namespace tramontane
