// The last steps before a program runs, in the process that becomes it.
#pragma once

#include <string>

#include "verifier/sandbox/jail/leader.h"

namespace tramontane {

// Why exec was not reached.
struct StartFailure {
  char step[64];
  int error_number;
};

// Streams in place, every other descriptor closed, working in `scratch`; then capabilities,
// limits, Landlock and seccomp, each of which must hold; then the program. A failure goes to
// `failed_fd`, which the program does not inherit.
[[noreturn]] void StartProgram(const Settled& settled, const JailOrder& order, const LeaderFds& fds,
                               const std::string& scratch, int failed_fd);

}  // namespace tramontane
