// Where the learner's thread writes what it does, and any thread reads it.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "trainer/loop/group_book.h"
#include "trainer/loop/step_recorder.h"
#include "trainer/loop_state.h"

namespace tramontane {

class StateBoard {
 public:
  // Collaborators outlive it; the recorder is read by the learner's thread alone.
  StateBoard(int64_t epoch, const GroupBook& book, const StepRecorder& recorder);

  // The learner's thread.
  void Set(int64_t step, const std::string& phase, const std::string& waiting_for = "",
           double waiting_s = 0);
  void AddStep(double busy_seconds, size_t trained_groups, size_t dropped_groups);

  LoopState Get() const;  // any thread

 private:
  const GroupBook& book_;
  const StepRecorder& recorder_;
  const std::chrono::steady_clock::time_point created_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  LoopState state_;  // guarded by mutex_
};

}  // namespace tramontane
