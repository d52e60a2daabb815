#include "trainer/loop/state_board.h"

#include "common/clock.h"

namespace tramontane {

StateBoard::StateBoard(int64_t epoch, const GroupBook& book, const StepRecorder& recorder)
    : book_(book), recorder_(recorder) {
  state_.epoch = epoch;
}

void StateBoard::Set(int64_t step, const std::string& phase, const std::string& waiting_for,
                     double waiting_s) {
  const BookCounts counts = book_.counts();
  std::lock_guard lock(mutex_);
  state_.phase = phase;
  state_.waiting_for = waiting_for;
  state_.waiting_since_s = waiting_s;
  state_.step = step;
  state_.issued = counts.issued;
  state_.running = static_cast<uint64_t>(counts.running);
  state_.ready = static_cast<uint64_t>(counts.ready);
  state_.mean_reward = recorder_.last_reward();
  state_.mean_staleness_versions = recorder_.last_staleness();
  state_.eval_accuracy = recorder_.eval_accuracy();
}

void StateBoard::AddStep(double busy_seconds, size_t trained_groups, size_t dropped_groups) {
  std::lock_guard lock(mutex_);
  state_.busy_seconds += busy_seconds;
  state_.trained += trained_groups;
  state_.dropped += dropped_groups;
}

LoopState StateBoard::Get() const {
  std::lock_guard lock(mutex_);
  LoopState state = state_;
  state.uptime_seconds = SecondsSince(created_);
  return state;
}

}  // namespace tramontane
