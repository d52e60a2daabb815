// What was sampled since the last step, trained on or not: the honest reward curve, the pass
// distribution and the token count. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"

namespace tramontane {

struct WindowTotals {
  int64_t groups = 0, samples = 0, tokens = 0, truncated = 0, repeated = 0;
  int64_t solved_none = 0, solved_some = 0, solved_all = 0;  // groups
  double reward_sum = 0;
  int64_t answers = 0, correct = 0;        // samples that are no corrections; the right ones
  int64_t corrections = 0, corrected = 0;  // corrections; the right ones
  std::map<std::string, double> component_sums;
  std::map<std::string, int64_t> dropped_samples;  // by reason

  double MeanReward() const { return samples ? reward_sum / static_cast<double>(samples) : 0; }
};

class CollectionWindow {
 public:
  explicit CollectionWindow(MetricsRegistry& metrics);

  // A train group as it came back.
  void AddReturned(const Group& group);
  // A finished train group, its invalid samples already removed (and counted in `removed`).
  void AddGroup(const Group& group, const std::map<std::string, int64_t>& removed);
  void AddDropped(const std::string& reason, int64_t samples);
  // Samples so far in this process, and tokens of all samples.
  int64_t total_tokens() const;
  WindowTotals Take();  // since the last Take

 private:
  void AddCorrections(const Group& group);  // mutex_ held

  MetricsRegistry& metrics_;
  Counter collected_, none_, some_, all_;
  std::array<Counter, 4> corrections_;  // by [answer right][correction right]
  Histogram dispatched_tokens_, collected_tokens_;
  mutable std::mutex mutex_;
  WindowTotals window_;
  int64_t total_tokens_ = 0;
};

}  // namespace tramontane
