// Who waits on whom, said while it lasts: in the state, in the log and as an event. One WaitNotice
// a wait; the learner's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "queue/work_queue.h"
#include "trainer/loop/group_book.h"
#include "trainer/loop/loop_shared.h"
#include "trainer/loop/state_board.h"

namespace tramontane {

class WaitNotice {
 public:
  WaitNotice(int64_t step, StateBoard& board, Events& events);

  // Still waiting for `what`. True when this was said aloud: after 2 s, and every 5 s from then on.
  // `last` is the newest attempt's status, for the log.
  bool StillWaiting(const std::string& what, const absl::Status& last = absl::OkStatus());
  double seconds() const;  // since the wait began

 private:
  const int64_t step_;
  StateBoard& board_;
  Events& events_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double next_s_;
};

// "groups (3 of 8 ready, 12 running; oldest lease 4.0 s by generator-1)"; Redis comes first when it
// is away.
std::string DescribeGroupWait(const BookCounts& counts, int64_t groups_per_step, int64_t dropped,
                              const QueueStats& stats, double redis_down_s);

}  // namespace tramontane
