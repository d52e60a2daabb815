#include "cli/busy_meter.h"

#include <algorithm>

namespace tramontane {

void BusyMeter::Look(double now_s, const std::map<std::string, EngineTime>& engines) {
  if (!begin_s_) begin_s_ = now_s;
  end_s_ = now_s;
  for (const auto& [name, engine] : engines) {
    const auto before = last_.find(name);
    if (before != last_.end()) {
      // A process that was not there at the last look has begun since then.
      const bool same = before->second.pid == engine.pid;
      busy_s_ += std::max(0.0, engine.busy_seconds - (same ? before->second.busy_seconds : 0.0));
    }
    last_[name] = engine;
  }
}

std::optional<double> BusyMeter::Share(int generators) const {
  if (!begin_s_ || end_s_ <= *begin_s_ || generators <= 0) return std::nullopt;
  return busy_s_ / ((end_s_ - *begin_s_) * generators);
}

}  // namespace tramontane
