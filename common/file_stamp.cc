#include "common/file_stamp.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "common/files.h"
#include "common/hash.h"
#include "common/unique_fd.h"

namespace tramontane {

absl::StatusOr<FileStamp> StampFile(const std::string& path) {
  FileStamp stamp;
  std::error_code error;
  stamp.bytes = std::filesystem::file_size(path, error);
  if (error) return ErrnoStatus(error.value(), path);
  if (stamp.bytes == 0) {
    stamp.sha256 = Sha256Hex("");
    return stamp;
  }
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, path);
  void* mapped = ::mmap(nullptr, stamp.bytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (mapped == MAP_FAILED) return ErrnoStatus(errno, path);
  stamp.sha256 = Sha256Hex(mapped, stamp.bytes);
  ::munmap(mapped, stamp.bytes);
  return stamp;
}

}  // namespace tramontane
