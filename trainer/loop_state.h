// Live numbers of a run loop, for GetState and `status`. A value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "queue/work_queue.h"

namespace tramontane {

struct LoopState {
  std::string phase = "starting";
  std::string waiting_for;     // "" when busy; else e.g. "groups (12 of 32 ready)"
  double waiting_since_s = 0;  // seconds it has waited
  int64_t step = 0, epoch = 0;
  int64_t steps = 0;  // when it ends at the latest; 0: not known
  uint64_t issued = 0, running = 0, ready = 0, trained = 0, dropped = 0;
  double mean_reward = 0, mean_staleness_versions = 0;
  std::optional<double> eval_accuracy;
  std::optional<QueueStats> queue;  // absent before the loop runs
  double busy_seconds = 0, uptime_seconds = 0;
};

}  // namespace tramontane
