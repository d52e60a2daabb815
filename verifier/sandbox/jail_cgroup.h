// The control groups of one jail: a bound on tasks and memory of everything that runs in it, where
// this process may make groups (version 1, or a delegated version 2). Any one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace tramontane {

class JailCgroup {
 public:
  // As much of it as the machine allows; nothing of it is an error.
  JailCgroup(int slot, int64_t max_tasks, int64_t max_memory_bytes);
  ~JailCgroup();  // the groups' processes are dead by now
  JailCgroup(const JailCgroup&) = delete;
  JailCgroup& operator=(const JailCgroup&) = delete;

  const std::vector<UniqueFd>& procs_files() const { return procs_files_; }
  uint32_t layers() const { return layers_; }  // bits of JailLayer
  const std::vector<std::string>& folders() const { return folders_; }

  // Removes groups that jails of dead processes have left behind (a service that was killed).
  static void SweepStale();

 private:
  std::vector<std::string> folders_;
  std::vector<UniqueFd> procs_files_;
  uint32_t layers_ = 0;
};

}  // namespace tramontane
