// A file system of a test's own with a few kilobytes: what happens on a full disk. Needs the right
// to mount; where a test has it not, it skips.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tests/support/redis_server.h"

namespace tramontane {

class SmallDisk {
 public:
  // PermissionDenied without the right to mount.
  static absl::StatusOr<std::unique_ptr<SmallDisk>> Mount(size_t bytes);
  ~SmallDisk();

  const std::string& path() const { return dir_.path(); }
  // Leaves at most `free_bytes` of room; called again, it gives room back or takes it.
  void Fill(size_t free_bytes);
  // Files below the disk's root, by relative name, that are not the filler.
  int CountFiles() const;

 private:
  SmallDisk() = default;

  TempDir dir_;
};

}  // namespace tramontane
