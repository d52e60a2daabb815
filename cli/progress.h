// What a person sees of a run: the trainer's JSON events as one line each.
//
// On a terminal waiting states are shown on one line that is written over; otherwise every line
// stays. With --json the events pass through unchanged, one object a line.
#pragma once

#include <cstdio>
#include <string>

#include "common/rollout.h"

namespace tramontane {

// One event as text; empty for events that only machines care about.
std::string RenderEvent(const Json& event);

class ProgressPrinter {
 public:
  enum class Mode { kPlain, kTerminal, kJson };
  ProgressPrinter(std::FILE* out, Mode mode) : out_(out), mode_(mode) {}

  void Event(const Json& event);            // of the trainer
  void Note(const std::string& text);       // of the supervisor: started, restarted, …
  Mode mode() const { return mode_; }

 private:
  void Line(const std::string& text, bool transient);

  std::FILE* out_;
  const Mode mode_;
  bool transient_shown_ = false;
};

}  // namespace tramontane
