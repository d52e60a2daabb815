#include "verifier/sandbox/jail/seccomp_filter.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tramontane {
namespace {

// Stands for the caller's own pid in compiled filters; no pid is that large.
constexpr uint32_t kOwnPid = 0x5A5A5A01;

// Computing, memory, own files and streams, time, threads' own affairs. Names that an architecture
// lacks are skipped.
constexpr const char* kBoth[] = {"read",
                                 "write",
                                 "readv",
                                 "writev",
                                 "pread64",
                                 "pwrite64",
                                 "preadv",
                                 "pwritev",
                                 "lseek",
                                 "close",
                                 "close_range",
                                 "fstat",
                                 "stat",
                                 "lstat",
                                 "newfstatat",
                                 "statx",
                                 "fstatfs",
                                 "statfs",
                                 "mmap",
                                 "mprotect",
                                 "munmap",
                                 "brk",
                                 "mremap",
                                 "madvise",
                                 "rt_sigaction",
                                 "rt_sigprocmask",
                                 "rt_sigreturn",
                                 "rt_sigsuspend",
                                 "sigaltstack",
                                 "pause",
                                 "restart_syscall",
                                 "access",
                                 "faccessat",
                                 "faccessat2",
                                 "pipe",
                                 "pipe2",
                                 "dup",
                                 "dup2",
                                 "dup3",
                                 "select",
                                 "pselect6",
                                 "poll",
                                 "ppoll",
                                 "epoll_create1",
                                 "epoll_create",
                                 "epoll_ctl",
                                 "epoll_wait",
                                 "epoll_pwait",
                                 "eventfd2",
                                 "sched_yield",
                                 "nanosleep",
                                 "clock_nanosleep",
                                 "clock_gettime",
                                 "clock_getres",
                                 "gettimeofday",
                                 "time",
                                 "getpid",
                                 "gettid",
                                 "getppid",
                                 "getuid",
                                 "geteuid",
                                 "getgid",
                                 "getegid",
                                 "getpgrp",
                                 "getgroups",
                                 "getresuid",
                                 "getresgid",
                                 "uname",
                                 "open",
                                 "openat",
                                 "creat",
                                 "unlink",
                                 "unlinkat",
                                 "mkdir",
                                 "mkdirat",
                                 "rmdir",
                                 "rename",
                                 "renameat",
                                 "renameat2",
                                 "truncate",
                                 "ftruncate",
                                 "fsync",
                                 "fdatasync",
                                 "fadvise64",
                                 "getcwd",
                                 "chdir",
                                 "fchdir",
                                 "readlink",
                                 "readlinkat",
                                 "getdents64",
                                 "getrandom",
                                 "futex",
                                 "set_robust_list",
                                 "rseq",
                                 "set_tid_address",
                                 "arch_prctl",
                                 "exit",
                                 "exit_group",
                                 "wait4",
                                 "waitid",
                                 "sched_getaffinity",
                                 "getrlimit",
                                 "setrlimit",
                                 "sysinfo",
                                 "getrusage",
                                 "times",
                                 "alarm",
                                 "setitimer",
                                 "getitimer",
                                 "umask",
                                 "execveat",
                                 "membarrier",
                                 "getcpu"};
constexpr const char* kCompilerOnly[] = {"fork",   "vfork",    "execve",         "chmod",
                                         "fchmod", "fchmodat", "copy_file_range"};

constexpr uint64_t kNewNamespaces = CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                    CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS;

class Builder {
 public:
  Builder() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
    Check(context_ ? 0 : -ENOMEM, "seccomp_init");
    Check(seccomp_attr_set(context_, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "bad arch");
    Check(seccomp_attr_set(context_, SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize");
  }
  ~Builder() {
    if (context_) seccomp_release(context_);
  }
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  void Allow(const char* name) { Add(SCMP_ACT_ALLOW, name, {}); }
  void AllowIf(const char* name, scmp_arg_cmp argument) { Add(SCMP_ACT_ALLOW, name, {argument}); }
  void Answer(const char* name, int error) { Add(SCMP_ACT_ERRNO(error), name, {}); }
  int Export(int fd) {
    if (error_.empty()) Check(seccomp_export_bpf(context_, fd), "export");
    return error_.empty() ? 0 : -1;
  }
  const std::string& error() const { return error_; }

 private:
  void Add(uint32_t action, const char* name, const std::vector<scmp_arg_cmp>& arguments) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number < 0 || !error_.empty()) return;  // not on this architecture
    Check(seccomp_rule_add_array(context_, action, number, static_cast<unsigned>(arguments.size()),
                                 arguments.data()),
          name);
  }
  void Check(int result, const char* what) {
    if (result < 0 && error_.empty()) {
      error_ = std::string("seccomp: ") + what + ": " + strerror(-result);
    }
  }

  scmp_filter_ctx context_;
  std::string error_;
};

// Calls that are harmless with some arguments alone. Pointers cannot be looked behind, so calls
// that take their arguments in memory (clone3, openat2) are not offered.
void AllowWithArguments(JailProfile profile, Builder& b) {
  if (profile == JailProfile::kProgram) {  // threads, never processes
    b.AllowIf("clone", SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | kNewNamespaces, CLONE_THREAD));
  } else {
    b.AllowIf("clone", SCMP_A0(SCMP_CMP_MASKED_EQ, kNewNamespaces, 0));
  }
  b.Answer("clone3", ENOSYS);  // the C library then uses clone
  for (const char* name : {"kill", "tgkill"}) b.AllowIf(name, SCMP_A0(SCMP_CMP_EQ, kOwnPid));
  for (const uint64_t pid : {uint64_t{0}, uint64_t{kOwnPid}}) {
    b.AllowIf("prlimit64", SCMP_A0(SCMP_CMP_EQ, pid));
  }
  for (const uint64_t request : {TCGETS, TIOCGWINSZ, FIOCLEX, FIONCLEX, FIONREAD}) {
    b.AllowIf("ioctl", SCMP_A1(SCMP_CMP_EQ, request));
  }
  // No locks, leases, owners or pipe sizes.
  for (const uint64_t command : {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL}) {
    b.AllowIf("fcntl", SCMP_A1(SCMP_CMP_EQ, command));
  }
  for (const uint64_t option : {PR_SET_NAME, PR_GET_NAME}) {
    b.AllowIf("prctl", SCMP_A0(SCMP_CMP_EQ, option));
  }
}

}  // namespace

bool SeccompFilter::Compile(JailProfile profile, SeccompFilter& filter, std::string& error) {
  Builder builder;
  for (const char* name : kBoth) builder.Allow(name);
  if (profile == JailProfile::kCompiler) {
    for (const char* name : kCompilerOnly) builder.Allow(name);
  }
  AllowWithArguments(profile, builder);
  const int fd = memfd_create("seccomp", MFD_CLOEXEC);
  if (fd < 0 || builder.Export(fd) < 0) {
    error = fd < 0 ? std::string("memfd_create: ") + strerror(errno) : builder.error();
    if (fd >= 0) close(fd);
    return false;
  }
  const off_t bytes = lseek(fd, 0, SEEK_END);
  filter.code_.resize(static_cast<size_t>(bytes) / sizeof(sock_filter));
  const bool good =
      bytes > 0 && pread(fd, filter.code_.data(), static_cast<size_t>(bytes), 0) == bytes;
  close(fd);
  if (!good) error = "seccomp: the compiled filter could not be read";
  return good;
}

bool SeccompFilter::Apply(pid_t own_pid) const {
  std::vector<sock_filter> code = code_;
  for (sock_filter& instruction : code) {
    const bool compares = instruction.code == (BPF_JMP | BPF_JEQ | BPF_K);
    if (compares && instruction.k == kOwnPid) instruction.k = static_cast<uint32_t>(own_pid);
  }
  sock_fprog program{.len = static_cast<unsigned short>(code.size()), .filter = code.data()};
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace tramontane
