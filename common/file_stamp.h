// What tells one content of a file from another.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

struct FileStamp {
  uint64_t bytes = 0;
  std::string sha256;  // 64 lower-case hex digits
};

// Mapped rather than read: a file may be larger than what one wants to hold.
absl::StatusOr<FileStamp> StampFile(const std::string& path);

}  // namespace tramontane
