// One run: the process that starts the program, waits for it, ends all that is left and says how it
// went. In a pid namespace it is process 1 there, so nothing outlives it; without, the program's
// process group, which seccomp does not let anything leave, serves the same purpose.
#pragma once

#include "verifier/sandbox/jail/confine.h"
#include "verifier/sandbox/jail/seccomp_filter.h"
#include "verifier/sandbox/jail_wire.h"

namespace tramontane {

// Fixed once the jail program has settled.
struct Settled {
  JailSettings settings;
  int landlock_abi = 0;
  int proc_fd = -1;               // the machine's /proc, for scheduling figures; -1: none
  bool limits_processes = false;  // RLIMIT_NPROC counts this jail's processes alone
  SeccompFilter filters[2];       // by JailProfile
};

struct LeaderFds {
  int input, output, error, program, extra;  // as received with the order
  int go;                                     // readable once the run may begin
  int report;                                 // the program's pid, then a JailResult
};

// The leader's whole life. Never returns.
[[noreturn]] void LeadRun(const Settled& settled, const JailOrder& order, const LeaderFds& fds);

}  // namespace tramontane
