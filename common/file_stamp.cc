#include "common/file_stamp.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "common/files.h"
#include "common/hash.h"

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
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path);
  void* mapped = ::mmap(nullptr, stamp.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int map_errno = errno;
  ::close(fd);
  if (mapped == MAP_FAILED) return ErrnoStatus(map_errno, path);
  stamp.sha256 = Sha256Hex(mapped, stamp.bytes);
  ::munmap(mapped, stamp.bytes);
  return stamp;
}

}  // namespace tramontane
