// Runs file work off the hot path, in order, on one thread. What it writes is for people; an error
// is logged and does not end the run. Any thread.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "common/mailbox.h"

namespace tramontane {

class BackgroundWriter {
 public:
  BackgroundWriter();
  ~BackgroundWriter();  // finishes what it was given

  // Waits while the backlog is full: a slow disk slows the loop instead of filling the memory.
  void Do(std::string what, std::function<absl::Status()> work);

 private:
  struct Job {
    std::string what;
    std::function<absl::Status()> work;
  };
  Mailbox<Job> jobs_;
  std::thread thread_;
};

}  // namespace tramontane
