// When a supervised stage is done before its last step: by the losses of rows that it does not
// learn from. Kept with each checkpoint, so that a resumed stage ends where it would have. One
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

class HeldOutExit {
 public:
  // `saved`: what ToJson gave at the checkpoint; anything else at a start.
  HeldOutExit(const SftSection& sft, const Json& saved);

  void Evaluated(double loss);
  // The name of the rule that holds, stop_loss or stop_stale_evaluations; "" while none does.
  std::string Reason() const;
  std::optional<double> least() const { return least_; }
  int64_t stale_evaluations() const { return stale_evaluations_; }  // since the least
  Json ToJson() const;

 private:
  const double stop_loss_;
  const int32_t stop_stale_evaluations_;
  std::optional<double> least_;
  int64_t stale_evaluations_ = 0;
};

}  // namespace tramontane
