// The jail program's loop: takes one order at a time, starts a leader for it, keeps the deadline
// that even a stuck leader cannot miss, and answers. Single-threaded; ends with the pool's socket.
#pragma once

#include <vector>

#include "verifier/sandbox/jail/leader.h"

namespace tramontane {

// `cgroups`: cgroup.procs files that every run's processes are put into. Returns when the pool
// has closed its end.
void ServeOrders(const Settled& settled, int socket, const std::vector<int>& cgroups);

}  // namespace tramontane
