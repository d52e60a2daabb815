#include "services/host_id.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>

#include "common/files.h"

namespace tramontane {

std::string HostId() {
  absl::StatusOr<std::string> boot = ReadFile("/proc/sys/kernel/random/boot_id");
  std::string id = boot.ok() ? *boot : "unknown-" + MakeIncarnation();
  while (!id.empty() && id.back() == '\n') id.pop_back();
  // Two containers on one host have the same boot id and different shared memory.
  struct stat shm {};
  if (::stat("/dev/shm", &shm) == 0) id += ":" + std::to_string(shm.st_dev);
  return id;
}

std::string MakeIncarnation() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(now).count()) + "-" +
         std::to_string(::getpid());
}

}  // namespace tramontane
