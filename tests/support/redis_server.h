// A real redis-server of a test's own: unix socket and append-only file in a temporary folder.
// Bounded in memory, stops with the test (also when the test is killed), ended by pid only. The
// thread that starts it must outlive it: the kernel ends the child together with that thread.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "tests/support/temp_dir.h"

namespace tramontane {

class RedisServer {
 public:
  // Waits until it answers, at most 10 s.
  static absl::StatusOr<std::unique_ptr<RedisServer>> Start();
  ~RedisServer();

  RedisSection config() const;  // unix socket, 1 s command timeout
  void Pause();                 // SIGSTOP: it neither answers nor refuses
  void Resume();                // SIGCONT
  void Kill();                  // SIGKILL, waited for
  absl::Status Restart();       // from the append-only file
  absl::Status RestartEmpty();  // after a Kill(): the data is gone

 private:
  RedisServer() = default;
  absl::Status Launch();

  TempDir dir_;
  pid_t pid_ = -1;
};

}  // namespace tramontane
