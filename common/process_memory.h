// How much memory this process holds. Linux.
#pragma once

#include <cstdint>

namespace tramontane {

struct ProcessMemory {
  int64_t resident_bytes = 0;  // now, shared pages included
  int64_t peak_bytes = 0;      // most so far
};

// All 0 where /proc cannot be read. Any thread.
ProcessMemory ReadProcessMemory();

}  // namespace tramontane
