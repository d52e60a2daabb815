#include "tests/support/small_disk.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "common/files.h"

namespace tramontane {
namespace {

constexpr char kFiller[] = "/filler";

}  // namespace

absl::StatusOr<std::unique_ptr<SmallDisk>> SmallDisk::Mount(size_t bytes) {
  std::unique_ptr<SmallDisk> disk(new SmallDisk());
  const std::string options = "size=" + std::to_string(bytes);
  if (::mount("tmpfs", disk->path().c_str(), "tmpfs", 0, options.c_str()) != 0) {
    return ErrnoStatus(errno, "mounting a small disk");
  }
  return disk;
}

SmallDisk::~SmallDisk() { ::umount2(path().c_str(), MNT_DETACH); }

void SmallDisk::Fill(size_t free_bytes) {
  const std::string filler = path() + kFiller;
  ::unlink(filler.c_str());
  const int fd = ::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  // Others may write meanwhile: then the room just counted is gone, and an allocation of all of it
  // takes nothing at all.
  size_t filled = 0;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    struct statvfs info {};
    if (::statvfs(path().c_str(), &info) != 0) break;
    const size_t room = info.f_bavail * info.f_frsize;
    if (room <= free_bytes) break;
    const size_t more = room - free_bytes;
    if (::posix_fallocate(fd, static_cast<off_t>(filled), static_cast<off_t>(more)) == 0)
      filled += more;
  }
  ::close(fd);
}

int SmallDisk::CountFiles() const {
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path())) {
    count += entry.is_regular_file() && entry.path() != path() + kFiller;
  }
  return count;
}

}  // namespace tramontane
