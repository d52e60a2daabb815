#include "verifier/sandbox/jail/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace tramontane {
namespace {

// Newer than Debian 12's kernel headers; numbers are the kernel's (include/uapi/linux/landlock.h).
constexpr uint64_t kTruncate = 1ull << 14;     // ABI 3
constexpr uint64_t kIoctlDevice = 1ull << 15;  // ABI 5
constexpr uint64_t kTcp = 3;                   // ABI 4: bind, connect
constexpr uint64_t kScopes = 3;                // ABI 6: abstract unix sockets, signals

struct RulesetAttr {
  uint64_t filesystem, network, scopes;
};

constexpr uint64_t kRead =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kWrite = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                            LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                            LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                            LANDLOCK_ACCESS_FS_MAKE_REG | kTruncate;
constexpr uint64_t kDevice = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;

uint64_t AllFilesystemRights(int abi) {
  uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;  // ABI 1
  if (abi >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) rights |= kTruncate;
  if (abi >= 5) rights |= kIoctlDevice;
  return rights;
}

bool Allow(int ruleset, const std::string& path, uint64_t rights) {
  const int fd = open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT;
  landlock_path_beneath_attr rule{.allowed_access = rights, .parent_fd = fd};
  const bool added =
      syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
  close(fd);
  return added;
}

}  // namespace

int LandlockAbi() {
  const long abi =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi > 0 ? static_cast<int>(abi) : 0;
}

bool RestrictWithLandlock(int abi, const LandlockPaths& paths) {
  const uint64_t known = AllFilesystemRights(abi);
  const RulesetAttr attr{known, abi >= 4 ? kTcp : 0, abi >= 6 ? kScopes : 0};
  const size_t size = abi >= 6 ? sizeof attr : (abi >= 4 ? 16 : 8);
  const int ruleset = static_cast<int>(syscall(SYS_landlock_create_ruleset, &attr, size, 0));
  if (ruleset < 0) return false;
  bool good = true;
  for (const auto& path : paths.read) good = good && Allow(ruleset, path, kRead & known);
  for (const auto& path : paths.write) good = good && Allow(ruleset, path, kWrite & known);
  for (const auto& path : paths.devices) good = good && Allow(ruleset, path, kDevice & known);
  good = good && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
  const int error = errno;
  close(ruleset);
  errno = error;
  return good;
}

}  // namespace tramontane
