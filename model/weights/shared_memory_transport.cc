// One POSIX shared-memory object per version, written once under a name of its own and never
// changed. A fetcher that has opened an object goes on reading it after its name is gone, so a
// payload is never seen half-written or replaced. Plain read and write calls on the descriptor
// instead of a mapping: a truncated object is then an error and not a SIGBUS.

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "model/weights/transport.h"
#include "common/unique_fd.h"

namespace tramontane {
namespace {

constexpr char kMagic[8] = {'T', 'R', 'M', 'W', 'S', 'H', 'M', '1'};
constexpr size_t kChunkBytes = size_t{4} << 20;
// The published version and the one before it: a fetcher that was told a name just before it was
// superseded still finds it.
constexpr size_t kKeptVersions = 2;

struct Header {
  char magic[8];
  int64_t version;
  int64_t trainer_epoch;
  uint64_t payload_bytes;
  char padding[32];
};
static_assert(sizeof(Header) == 64);

absl::Status WriteAll(int fd, const void* data, size_t size, off_t offset) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::pwrite(fd, bytes, std::min(size, kChunkBytes), offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "shared memory");
    }
    bytes += written;
    offset += written;
    size -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

// The header goes last: an object whose magic stands is complete.
absl::Status WriteObject(int fd, const WeightManifest& manifest, const void* payload) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = manifest.version;
  header.trainer_epoch = manifest.trainer_epoch;
  header.payload_bytes = manifest.payload_bytes;
  // Reserved up front, so that a full /dev/shm is an error here and not a signal later.
  const off_t size = static_cast<off_t>(sizeof(Header) + manifest.payload_bytes);
  if (int error = ::posix_fallocate(fd, 0, size); error != 0) {
    return ErrnoStatus(error, "shared memory (/dev/shm) for " + std::to_string(size) + " bytes");
  }
  RETURN_IF_ERROR(WriteAll(fd, payload, manifest.payload_bytes, sizeof(Header)));
  return WriteAll(fd, &header, sizeof(header), 0);
}

class SharedMemorySource final : public WeightSource {
 public:
  explicit SharedMemorySource(std::string prefix) : prefix_(std::move(prefix)) { RemoveStale(); }

  ~SharedMemorySource() override {
    for (const std::string& name : names_) ::shm_unlink(name.c_str());
  }

  absl::Status Publish(const WeightManifest& manifest, const void* payload) override {
    const std::string name = "/" + prefix_ + "." + std::to_string(manifest.trainer_epoch) + "." +
                             std::to_string(manifest.version);
    std::lock_guard lock(mutex_);
    // Publishing a version again replaces its object; readers of the old one keep it.
    ::shm_unlink(name.c_str());
    UniqueFd fd(::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (!fd.valid()) return ErrnoStatus(errno, "shm_open " + name);
    if (absl::Status status = WriteObject(fd.get(), manifest, payload); !status.ok()) {
      ::shm_unlink(name.c_str());
      return Annotate(status, name);
    }
    names_.erase(std::remove(names_.begin(), names_.end(), name), names_.end());
    names_.push_back(name);
    while (names_.size() > kKeptVersions) {
      ::shm_unlink(names_.front().c_str());
      names_.pop_front();
    }
    return absl::OkStatus();
  }

  std::string Address() const override {
    std::lock_guard lock(mutex_);
    return names_.empty() ? "" : names_.back();
  }

 private:
  // What a killed process of this run left behind.
  void RemoveStale() {
    std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/dev/shm"), ::closedir);
    if (dir == nullptr) return;
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string name = entry->d_name;
      if (name.starts_with(prefix_ + ".") && ::shm_unlink(("/" + name).c_str()) == 0) {
        LogInfo("stale_weights_removed", {{"name", name}});
      }
    }
  }

  const std::string prefix_;
  mutable std::mutex mutex_;
  std::deque<std::string> names_;  // guarded by mutex_; oldest first
};

class SharedMemoryFetcher final : public WeightFetcher {
 public:
  absl::Status Fetch(const WeightManifest& manifest, const std::string& address, double timeout_s,
                     std::vector<char>& payload) override {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
    UniqueFd fd(::shm_open(address.c_str(), O_RDONLY | O_CLOEXEC, 0));
    if (!fd.valid()) {
      if (errno == ENOENT) return absl::NotFoundError("shared memory " + address + " is gone");
      return ErrnoStatus(errno, "shm_open " + address);
    }
    RETURN_IF_ERROR(CheckHeader(fd.get(), manifest, address));
    payload.resize(manifest.payload_bytes);
    size_t done = 0;
    while (done < payload.size()) {
      if (std::chrono::steady_clock::now() >= deadline) {
        return absl::DeadlineExceededError("shared memory " + address + ": " + std::to_string(done) +
                                           " bytes read in " + std::to_string(timeout_s) + " s");
      }
      const ssize_t got = ::pread(fd.get(), payload.data() + done,
                                  std::min(payload.size() - done, kChunkBytes),
                                  static_cast<off_t>(sizeof(Header) + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, "shared memory " + address);
      if (got == 0) return Truncated(address);
      done += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status Truncated(const std::string& address) {
    return absl::DataLossError("shared memory " + address + " is truncated");
  }

  static absl::Status CheckHeader(int fd, const WeightManifest& manifest, const std::string& address) {
    Header header{};
    if (::pread(fd, &header, sizeof(header), 0) != sizeof(header)) return Truncated(address);
    if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
      return absl::DataLossError("shared memory " + address + " holds no complete weight version");
    }
    if (header.version != manifest.version || header.trainer_epoch != manifest.trainer_epoch) {
      return absl::NotFoundError("shared memory " + address + " holds version " +
                                 std::to_string(header.version) + ", wanted " +
                                 std::to_string(manifest.version));
    }
    struct stat info{};
    if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, "shared memory " + address);
    if (header.payload_bytes != manifest.payload_bytes ||
        static_cast<uint64_t>(info.st_size) != sizeof(Header) + manifest.payload_bytes) {
      return Truncated(address);
    }
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> MakeSharedMemorySource(const std::string& name_prefix) {
  if (name_prefix.empty() || name_prefix.size() > 200 ||
      name_prefix.find('/') != std::string::npos) {
    return absl::InvalidArgumentError("shared-memory name prefix '" + name_prefix +
                                      "' must have 1 to 200 characters and no '/'");
  }
  return std::make_unique<SharedMemorySource>(name_prefix);
}

std::unique_ptr<WeightFetcher> MakeSharedMemoryFetcher() {
  return std::make_unique<SharedMemoryFetcher>();
}

}  // namespace tramontane
