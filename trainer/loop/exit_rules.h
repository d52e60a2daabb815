// When a run is done: run.max_steps and the other exit rules. Kept with each checkpoint, so that a
// resumed run ends where it would have. The learner's thread alone.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

class ExitRules {
 public:
  // `saved`: what ToJson gave at the checkpoint; an empty object at a start.
  ExitRules(const RunSection& run, const Json& saved);

  void StepDone(double mean_reward);
  void Evaluated(double accuracy);
  // The name of the first rule that holds after `step` steps and `elapsed_s` of the stage; "" while
  // none does.
  std::string Reason(int64_t step, double elapsed_s) const;
  Json ToJson() const;

 private:
  const RunSection run_;
  std::deque<double> rewards_;  // of the last stop_reward_window_steps
  std::optional<double> accuracy_, best_accuracy_;
  int64_t stale_evaluations_ = 0;  // since the best
};

}  // namespace tramontane
