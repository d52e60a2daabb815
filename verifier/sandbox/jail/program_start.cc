#include "verifier/sandbox/jail/program_start.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <vector>

#include "verifier/sandbox/jail/landlock.h"

namespace tramontane {
namespace {

constexpr int kProgramFd = 3, kExecFd = 4, kFailedFd = 5, kFirstUnusedFd = 6;
constexpr uint64_t kStackBytes = 64 << 20;
constexpr uint64_t kOpenFiles = 64;

[[noreturn]] void Fail(int failed_fd, const char* step) {
  StartFailure failure{};
  failure.error_number = errno;
  snprintf(failure.step, sizeof failure.step, "%s", step);
  const ssize_t written = write(failed_fd, &failure, sizeof failure);
  _exit(written > 0 ? 125 : 126);
}

// Moves the descriptors to their places; afterwards there are no others.
bool PlaceDescriptors(const LeaderFds& fds, int exec_fd, bool keep_program, int& failed_fd) {
  const int from[] = {fds.input, fds.output, fds.error, fds.program, exec_fd, failed_fd};
  int high[6];
  for (int i = 0; i < 6; ++i) {
    high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 32);
    if (high[i] < 0) return false;
  }
  for (int i = 0; i < 6; ++i) {
    if (dup3(high[i], i, i >= kExecFd ? O_CLOEXEC : 0) < 0) return false;
  }
  failed_fd = kFailedFd;
  if (!keep_program) close(kProgramFd);
  return syscall(SYS_close_range, kFirstUnusedFd, ~0u, 0) == 0;
}

bool DropCapabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const __user_cap_data_struct none[2] = {};
  return syscall(SYS_capset, &header, none) == 0;
}

bool Limit(__rlimit_resource resource, uint64_t value) {
  const rlimit limit{value, value};
  return setrlimit(resource, &limit) == 0;
}

bool SetLimits(const Settled& settled, const JailOrder& order) {
  // The leader and the jail program itself count as well.
  const bool processes =
      !settled.limits_processes || Limit(RLIMIT_NPROC, uint64_t{order.threads} + 2);
  return processes && Limit(RLIMIT_CORE, 0) && Limit(RLIMIT_CPU, (order.cpu_ms + 999) / 1000) &&
         Limit(RLIMIT_FSIZE, order.scratch_bytes) && Limit(RLIMIT_NOFILE, kOpenFiles) &&
         Limit(RLIMIT_MEMLOCK, 0) && Limit(RLIMIT_MSGQUEUE, 0) && Limit(RLIMIT_NICE, 0) &&
         Limit(RLIMIT_RTPRIO, 0) && Limit(RLIMIT_SIGPENDING, 64) &&
         Limit(RLIMIT_STACK, std::min(kStackBytes, order.memory_bytes)) &&
         Limit(RLIMIT_AS, order.memory_bytes);
}

bool Landlock(const Settled& settled, const std::string& readable, const std::string& writable) {
  if (settled.landlock_abi == 0) return true;  // the pool has decided whether that is enough
  LandlockPaths paths;
  paths.read = settled.settings.readonly;
  if (!settled.settings.header_dir.empty()) paths.read.push_back(settled.settings.header_dir);
  if (!readable.empty()) paths.read.push_back(readable);
  if (!writable.empty()) paths.write = {writable};
  paths.devices = {"/dev/null", "/dev/zero", "/dev/urandom"};
  return RestrictWithLandlock(settled.landlock_abi, paths);
}

std::vector<char*> Arguments(const JailOrder& order, std::string& text) {
  text.assign(order.text, order.text_bytes);
  std::vector<char*> argv;
  for (size_t at = 0; argv.size() < order.argc && at < text.size(); at = text.find('\0', at) + 1) {
    argv.push_back(text.data() + at);
  }
  argv.push_back(nullptr);
  return argv;
}

void ResetSignals() {
  for (int signal = 1; signal < NSIG; ++signal) {
    if (signal != SIGKILL && signal != SIGSTOP) std::signal(signal, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

void StartProgram(const Settled& settled, const JailOrder& order, const LeaderFds& fds,
                  const std::string& scratch, int failed_fd) {
  const bool compiles = order.profile == JailProfile::kCompiler;
  std::string text;
  std::vector<char*> argv = Arguments(order, text);
  // Compilers find their scratch folder by TMPDIR; programs get the same hash seed every time.
  std::string temporary = "TMPDIR=" + scratch, path = "PATH=/usr/bin", seed = "PYTHONHASHSEED=0";
  std::vector<char*> environment;
  if (compiles) environment = {temporary.data(), path.data(), nullptr};
  if (!compiles) environment = {seed.data(), nullptr};

  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int exec_fd = order.executes_program_fd ? fds.program : open(argv[0], O_PATH | O_CLOEXEC);
  if (exec_fd < 0) Fail(failed_fd, argv[0]);
  if (!PlaceDescriptors(fds, exec_fd, !order.executes_program_fd && !compiles, failed_fd)) {
    Fail(failed_fd, "descriptors");
  }
  // Without a mount namespace programs have no folder to write to: files could not be bounded.
  const bool writable = compiles || settled.settings.namespaces;
  const bool visible = writable || order.has_tree != 0;
  if (chdir(visible ? scratch.c_str() : "/") != 0) Fail(failed_fd, "chdir");
  ResetSignals();
  if (!DropCapabilities()) Fail(failed_fd, "capabilities");
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) Fail(failed_fd, "no_new_privs");
  if (!Landlock(settled, visible ? scratch : "", writable ? scratch : "")) Fail(failed_fd, "landlock");
  if (!settled.filters[static_cast<int>(order.profile)].Apply(getpid())) {
    Fail(failed_fd, "seccomp");
  }
  // Last, for they bind this process too: with its memory gone it could not do the rest.
  if (!SetLimits(settled, order)) Fail(failed_fd, "rlimits");
  syscall(SYS_execveat, kExecFd, "", argv.data(), environment.data(), AT_EMPTY_PATH);
  Fail(failed_fd, "exec");
}

}  // namespace tramontane
