#include "common/process_memory.h"

#include <fstream>
#include <limits>
#include <string>

namespace tramontane {

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  std::string key;
  int64_t kib = 0;
  while (status >> key) {
    if (key == "VmHWM:" && status >> kib) memory.peak_bytes = kib * 1024;
    if (key == "VmRSS:" && status >> kib) memory.resident_bytes = kib * 1024;
    status.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return memory;
}

}  // namespace tramontane
