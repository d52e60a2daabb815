// Runs file work off the hot path, in order, on one thread. What it writes is for people: an error
// is logged and does not end the run, but for a full disk (ResourceExhausted), which does: what
// comes next would be lost as well. Any thread.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "common/mailbox.h"
#include "trainer/loop/loop_shared.h"

namespace tramontane {

class BackgroundWriter {
 public:
  explicit BackgroundWriter(Failure& failure);  // outlives it
  ~BackgroundWriter();                          // finishes what it was given

  // Waits while the backlog is full: a slow disk slows the loop instead of filling the memory.
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
  Mailbox<Job> jobs_;
  std::thread thread_;
};

}  // namespace tramontane
