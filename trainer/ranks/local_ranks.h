// The other ranks of a trainer as processes of this host: this program again, with its command
// `rank`. They end with the value, and with this process however it dies.
//
// One thread (the parent-death signal belongs to the thread that starts them).
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

class LocalRanks {
 public:
  // Starts ranks 1 to size - 1, which shall dial `address`; the token goes by the environment.
  // Standard output and error are this process's.
  static absl::StatusOr<std::unique_ptr<LocalRanks>> Start(int size, const std::string& address,
                                                           const std::string& token);
  ~LocalRanks();  // those that still live after a moment are killed

  // Unavailable: one has ended; says which and how.
  absl::Status AllAlive();
  const std::vector<pid_t>& pids() const {
    return pids_;
  }  // of ranks 1, 2, …; -1 once it has ended

 private:
  LocalRanks() = default;

  std::vector<pid_t> pids_;
};

// Where a rank finds the token; empty when there is none.
std::string RankToken();

}  // namespace tramontane
