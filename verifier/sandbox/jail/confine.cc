#include "verifier/sandbox/jail/confine.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

namespace tramontane {
namespace {

constexpr uid_t kInnerUid = 1000;  // what programs see as their user
constexpr int kScratchInodes = 256;

bool WriteText(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  close(fd);
  errno = error;
  return written;
}

bool MapUser(uid_t uid, gid_t gid) {
  const std::string inner = std::to_string(kInnerUid);
  return WriteText("/proc/self/setgroups", "deny") &&
         WriteText("/proc/self/uid_map", inner + " " + std::to_string(uid) + " 1") &&
         WriteText("/proc/self/gid_map", inner + " " + std::to_string(gid) + " 1");
}

bool MakeFolders(const std::string& root, const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string folder = root + path.substr(0, slash);
    if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return false;
    if (slash == path.npos) return true;
  }
}

// Shows `path` at the same place under `root`, without write access.
bool ShowReadOnly(const std::string& root, const std::string& path, uint64_t flags) {
  const int tree = static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path.c_str(),
                                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (tree < 0) return false;
  mount_attr attr{.attr_set = flags, .attr_clr = 0, .propagation = 0, .userns_fd = 0};
  const std::string target = root + path;
  const bool shown =
      syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) == 0 &&
      syscall(SYS_move_mount, tree, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
  const int error = errno;
  close(tree);
  errno = error;
  return shown;
}

bool ShowSystemFolder(const std::string& root, const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return errno == ENOENT;
  if (S_ISLNK(info.st_mode)) {  // /lib → usr/lib
    char target[4096];
    const ssize_t length = readlink(path.c_str(), target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = 0;
    return symlink(target, (root + path).c_str()) == 0;
  }
  return MakeFolders(root, path) &&
         ShowReadOnly(root, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

bool ShowDevice(const std::string& root, const std::string& path) {
  const int fd = open((root + path).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  close(fd);
  return ShowReadOnly(root, path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
}

bool BuildRoot(const JailSettings& settings, const std::string& root) {
  for (const std::string& path : settings.readonly) {
    if (!ShowSystemFolder(root, path)) return false;
  }
  if (!settings.header_dir.empty() && !ShowSystemFolder(root, settings.header_dir)) return false;
  if (!MakeFolders(root, "/dev") || !MakeFolders(root, "/tmp")) return false;
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/urandom"}) {
    if (!ShowDevice(root, device)) return false;
  }
  return true;
}

}  // namespace

bool DropUser(const JailSettings& settings) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  umask(077);
  if (getuid() == 0 && settings.uid != 0) {
    // The scratch folder of the case without namespaces follows its user.
    if (!settings.box.empty() && chown(settings.box.c_str(), settings.uid, settings.uid) != 0) {
      return false;
    }
    if (setgroups(0, nullptr) == 0 && setresgid(settings.uid, settings.uid, settings.uid) == 0) {
      if (setresuid(settings.uid, settings.uid, settings.uid) != 0) return false;
    }
  }
  return getuid() != 0;
}

bool EnterNamespaces(const JailSettings& settings, std::string& error) {
  const auto fail = [&error](const std::string& step) {
    error = step + ": " + strerror(errno);
    return false;
  };
  const uid_t uid = getuid();
  const gid_t gid = getgid();
  // A process that changed its user does not own its /proc files until it says it may be dumped.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (unshare(CLONE_NEWUSER) != 0) return fail("user namespace");
  if (!MapUser(uid, gid)) return fail("user namespace: mapping");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (unshare(CLONE_NEWNS) != 0) return fail("mount namespace");
  if (unshare(CLONE_NEWNET) != 0) return fail("network namespace");
  if (unshare(CLONE_NEWIPC | CLONE_NEWUTS) != 0) return fail("IPC namespace");
  if (sethostname("jail", 4) != 0) return fail("UTS namespace");

  if (mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail("private mounts");
  const std::string root = "/tmp";  // covered by the new root, itself covered once in it
  if (mount("root", root.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0755") != 0) {
    return fail("tmpfs");
  }
  if (!BuildRoot(settings, root)) return fail("new root");
  if (chdir(root.c_str()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) return fail("pivot_root");
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) return fail("old root");
  mount_attr attr{.attr_set = MOUNT_ATTR_RDONLY, .attr_clr = 0, .propagation = 0, .userns_fd = 0};
  if (syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attr, sizeof attr) != 0) {
    return fail("read-only root");
  }
  return true;
}

bool MountScratch(uint64_t bytes) {
  const std::string options =
      "mode=0700,size=" + std::to_string(bytes) + ",nr_inodes=" + std::to_string(kScratchInodes);
  return mount("scratch", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.c_str()) == 0;
}

}  // namespace tramontane
