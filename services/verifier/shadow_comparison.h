// Two verifiers' verdicts on the same rollouts: how often they differ, and by how much. A version
// is looked at this way before it judges. Any thread.
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
  Json State() const;

 private:
  const std::string shadow_;
  Counter same_, differs_, unscored_;
  mutable std::mutex mutex_;
  int64_t compared_ = 0, differing_ = 0, skipped_ = 0;
  // Of rollouts that both scored: shadow minus primary.
  double difference_sum_ = 0, largest_difference_ = 0;
  int64_t correct_differs_ = 0;
};

}  // namespace tramontane
