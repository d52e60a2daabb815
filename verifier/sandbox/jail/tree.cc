#include "verifier/sandbox/jail/tree.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "verifier/sandbox/jail_wire.h"

namespace tramontane {
namespace {

bool Invalid() {
  errno = EINVAL;
  return false;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = write(fd, bytes.data(), bytes.size());
    if (size <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  return true;
}

// The sender has checked the path; this end takes nobody's word for what leaves the folder.
bool PlantFile(int folder, const std::string& path, std::string_view content) {
  int here = fcntl(folder, F_DUPFD_CLOEXEC, 0);
  size_t start = 0;
  for (size_t slash = path.find('/'); here >= 0; slash = path.find('/', start)) {
    const std::string part = path.substr(start, slash - start);
    if (part.empty() || part == "." || part == "..") {
      close(here);
      return Invalid();
    }
    const bool last = slash == path.npos;
    if (!last && mkdirat(here, part.c_str(), 0700) != 0 && errno != EEXIST) break;
    const int next = openat(here, part.c_str(),
                            last ? O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
                                 : O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                            0600);
    if (next < 0) break;
    close(here);
    here = next;
    start = slash + 1;
    if (last) {
      const bool written = WriteAll(here, content);
      close(here);
      return written;
    }
  }
  const int error = errno;
  if (here >= 0) close(here);
  errno = error;
  return false;
}

bool PlantAll(std::string_view packed, int folder) {
  while (!packed.empty()) {
    TreeEntry entry;
    if (packed.size() < sizeof entry) return Invalid();
    memcpy(&entry, packed.data(), sizeof entry);
    packed.remove_prefix(sizeof entry);
    if (packed.size() < uint64_t{entry.path_bytes} + entry.content_bytes) return Invalid();
    const std::string path(packed.substr(0, entry.path_bytes));
    packed.remove_prefix(entry.path_bytes);
    if (!PlantFile(folder, path, packed.substr(0, entry.content_bytes))) return false;
    packed.remove_prefix(entry.content_bytes);
  }
  return true;
}

}  // namespace

bool PlantTree(int fd, const std::string& folder) {
  struct stat info;
  if (fstat(fd, &info) != 0) return false;
  if (info.st_size == 0) return true;
  const auto size = static_cast<size_t>(info.st_size);
  void* bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) return false;
  const int root = open(folder.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  const bool planted = root >= 0 && PlantAll({static_cast<const char*>(bytes), size}, root);
  const int error = errno;
  if (root >= 0) close(root);
  munmap(bytes, size);
  errno = error;
  return planted;
}

}  // namespace tramontane
