// Durable file effects. Every write that must survive a crash goes through here:
// temporary name → fsync → rename → fsync of the parent folder. A failed write leaves nothing
// behind.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

// Errors name the path; ENOSPC becomes ResourceExhausted("…: disk full").
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes = size_t{1} << 32);
absl::Status WriteFileAtomic(const std::string& path, std::string_view bytes);
absl::Status MakeDirs(const std::string& path);
absl::Status FsyncDir(const std::string& path);
// Can `bytes` still be written in folder `dir`? Tried, not asked for: quotas count as well.
absl::Status CheckRoom(const std::string& dir, size_t bytes);
absl::Status ErrnoStatus(int error_number, const std::string& what);

}  // namespace tramontane
