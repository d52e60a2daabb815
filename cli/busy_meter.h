// How much of a stretch of time the engines of a run's generators were at work: from their own
// counters, looked at again and again. A value of one thread.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace tramontane {

// What one generator says of itself.
struct EngineTime {
  int pid = -1;             // another one: the process was started anew, and its counter with it
  double busy_seconds = 0;  // of its engine, since the process started
};

class BusyMeter {
 public:
  // `now_s` on any steadily growing clock; `engines` by name, those left out that did not answer.
  // The first call begins the stretch, the last one ends it.
  void Look(double now_s, const std::map<std::string, EngineTime>& engines);

  // Of `generators` times the stretch; empty before there is one. A generator that was down was not
  // busy; what a killed one did after the last look at it is not known and counts as nothing.
  std::optional<double> Share(int generators) const;

 private:
  std::optional<double> begin_s_;
  double end_s_ = 0, busy_s_ = 0;
  std::map<std::string, EngineTime> last_;
};

}  // namespace tramontane
