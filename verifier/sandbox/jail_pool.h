// A fixed number of jails, lent to whoever has a program to run. A jail that failed is replaced, by
// one that is as tight or by none.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "verifier/sandbox/jail.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

class JailPool {
 public:
  // Starts `section.programs` jails as tight as the machine allows, with namespaces when it can.
  // FailedPrecondition: not tight enough (layers.h). `jail_program`: path of tramontane-jail.
  static absl::StatusOr<std::unique_ptr<JailPool>> Create(const SandboxSection& section,
                                                          const std::string& jail_program,
                                                          const std::string& header_dir,
                                                          MetricsRegistry& metrics);
  JailPool(const JailPool&) = delete;
  JailPool& operator=(const JailPool&) = delete;

  // Waits for a free jail, then runs. Any thread. A task whose jail failed is tried once more in
  // another; Unavailable after that.
  absl::StatusOr<JailRun> Run(const JailTask& task);

  const SandboxDescription& description() const { return description_; }
  std::vector<pid_t> pids() const;  // of the jail programs that are free now

 private:
  JailPool(const SandboxSection& section, const std::string& jail_program,
           const std::string& header_dir, MetricsRegistry& metrics);

  // A free jail's place, with a jail in it unless none could be started.
  struct Slot {
    int number = 0;
    std::unique_ptr<Jail> jail;
  };
  // FailedPrecondition also when the jail is less tight than the first one.
  absl::StatusOr<std::unique_ptr<Jail>> Start(int slot) const;
  absl::StatusOr<JailRun> RunOnce(const JailTask& task);
  Slot Borrow();
  void Return(Slot slot);

  const SandboxSection section_;
  JailOptions options_;
  SandboxDescription description_;
  uint32_t layers_ = 0;  // of the first jail, which is the one described
  Counter restarts_;
  Gauge waiting_;

  mutable std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Slot> free_;
};

}  // namespace tramontane
