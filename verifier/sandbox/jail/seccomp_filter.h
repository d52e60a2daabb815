// The system calls that are left to a program in the jail: an allow-list, compiled once and applied
// in every run. What is not on it fails with EPERM, as if the kernel did not allow it; calls of
// another architecture (i386, x32) end the process.
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "verifier/sandbox/jail_wire.h"

namespace tramontane {

class SeccompFilter {
 public:
  // False: `error` says what libseccomp or the kernel refused.
  static bool Compile(JailProfile profile, SeccompFilter& filter, std::string& error);

  // For the calling thread and all it will start; irrevocable. `own_pid`: the one process that may
  // be signalled, the caller as it sees itself. Needs no_new_privs. False: errno says why.
  bool Apply(pid_t own_pid) const;

 private:
  std::vector<sock_filter> code_;
};

}  // namespace tramontane
