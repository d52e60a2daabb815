// Which processes can share memory: equal ids mean one kernel and one /dev/shm.
#pragma once

#include <string>

namespace tramontane {

std::string HostId();
// A name for this start of a process; different at each start.
std::string MakeIncarnation();

}  // namespace tramontane
