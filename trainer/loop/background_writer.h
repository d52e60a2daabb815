// Runs file work off the hot path, in order, on one thread. What it writes is for people: an error
// is logged and does not end the run. Two things do, for what comes next would be lost as well: a
// full disk (ResourceExhausted), and one that takes nothing for too long (DeadlineExceeded). Any
// thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "common/mailbox.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {

class BackgroundWriter {
 public:
  // `failure` outlives it. `patience`: for room in a full backlog.
  explicit BackgroundWriter(Failure& failure,
                            std::chrono::milliseconds patience = std::chrono::seconds(60));
  ~BackgroundWriter();  // finishes what it was given

  // Waits while the backlog is full: a slow disk slows the loop instead of filling the memory. Once
  // a run has failed nothing is waited for.
  void Do(std::string what, std::function<absl::Status()> work);
  // Until everything given before is done; then what ended the run, if anything did.
  absl::Status Flush();

 private:
  struct Job {
    std::string what;
    std::function<absl::Status()> work;
  };
  void Run(const Job& job);

  Failure& failure_;
  const std::chrono::milliseconds patience_;
  Mailbox<Job> jobs_;
  std::thread thread_;
};

}  // namespace tramontane
