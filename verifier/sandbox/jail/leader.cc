#include "verifier/sandbox/jail/leader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "verifier/sandbox/jail/program_start.h"
#include "verifier/sandbox/jail/tree.h"

namespace tramontane {
namespace {

using SteadyClock = std::chrono::steady_clock;

[[noreturn]] void Report(int fd, const JailResult& result) {
  const ssize_t written = write(fd, &result, sizeof result);
  _exit(written == sizeof result ? 0 : 1);
}

[[noreturn]] void ReportFault(int fd, const std::string& what) {
  JailResult result{};
  result.end = JailEnd::kFault;
  snprintf(result.message, sizeof result.message, "%s: %s", what.c_str(), strerror(errno));
  Report(fd, result);
}

// Ready before the deadline?
bool WaitReadable(int fd, SteadyClock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now());
    pollfd poll_fd{fd, POLLIN, 0};
    const int ready = poll(&poll_fd, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

std::string ReadAt(int folder, const std::string& path) {
  char text[128];
  const int fd = openat(folder, path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  const ssize_t size = read(fd, text, sizeof text);
  close(fd);
  return size > 0 ? std::string(text, static_cast<size_t>(size)) : "";
}

// Time that the program's main thread was ready and the machine busy with others. The program is
// the caller's only child; /proc, opened outside, knows it by another number than the caller does.
uint64_t RunQueueMicroseconds(int proc_fd) {
  const std::string children = ReadAt(proc_fd, "thread-self/children");
  const std::string pid = children.substr(0, children.find(' '));
  unsigned long long ran = 0, waited = 0;
  const std::string statistics = pid.empty() ? "" : ReadAt(proc_fd, pid + "/schedstat");
  if (sscanf(statistics.c_str(), "%llu %llu", &ran, &waited) != 2) return 0;
  return waited / 1000;
}

// Reaps what the program left behind, all of it dead or dying: its group has been killed, which
// nothing can leave, and in a namespace so is everybody.
uint32_t ReapRest(bool namespaces) {
  if (namespaces) kill(-1, SIGKILL);
  uint32_t killed = 0;
  while (true) {
    const pid_t pid = waitpid(-1, nullptr, __WALL);
    if (pid > 0) ++killed;
    if (pid < 0 && errno != EINTR) return killed;
  }
}

// Takes the compiler's result out of the scratch folder, which strangers have written to: no
// links, no special files, no more than its bound.
uint64_t CollectResult(const std::string& scratch, int result_fd, uint64_t max_bytes) {
  const int folder = open(scratch.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return 0;
  const int file = openat(folder, kJailResultName, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  close(folder);
  if (file < 0) return 0;
  struct stat info;
  uint64_t copied = 0;
  if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) &&
      static_cast<uint64_t>(info.st_size) <= max_bytes) {
    char buffer[1 << 16];
    ssize_t size = 0;
    while ((size = read(file, buffer, sizeof buffer)) > 0 && copied + size <= max_bytes) {
      if (write(result_fd, buffer, static_cast<size_t>(size)) != size) break;
      copied += static_cast<uint64_t>(size);
    }
    if (copied != static_cast<uint64_t>(info.st_size)) copied = 0;  // half a result is none
  }
  close(file);
  return copied;
}

void Empty(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::filesystem::remove_all(entry.path(), error);
  }
}

struct Waited {
  bool late = false;
  int status = 0;
  rusage usage{};
  uint64_t run_queue_us = 0;
};

Waited WaitForProgram(pid_t program, SteadyClock::time_point deadline, int proc_fd, int report) {
  const int pid_fd = static_cast<int>(syscall(SYS_pidfd_open, program, 0));
  if (pid_fd < 0) {
    kill(program, SIGKILL);
    ReportFault(report, "pidfd_open");
  }
  Waited waited;
  waited.late = !WaitReadable(pid_fd, deadline);
  if (waited.late) waited.run_queue_us = RunQueueMicroseconds(proc_fd);
  // Before it is reaped: until then no stranger can have its number.
  kill(-program, SIGKILL);
  kill(program, SIGKILL);
  while (wait4(program, &waited.status, __WALL, &waited.usage) < 0 && errno == EINTR) {
  }
  return waited;
}

uint64_t Microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000 + static_cast<uint64_t>(time.tv_usec);
}

JailResult Judge(const JailOrder& order, const Waited& waited, SteadyClock::time_point start) {
  JailResult result{};
  const auto wall = SteadyClock::now() - start;
  result.wall_us =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(wall).count());
  result.cpu_us = Microseconds(waited.usage.ru_utime) + Microseconds(waited.usage.ru_stime);
  result.peak_memory_bytes = static_cast<uint64_t>(waited.usage.ru_maxrss) * 1024;
  result.run_queue_us = waited.run_queue_us;
  const bool over_cpu = result.cpu_us >= uint64_t{order.cpu_ms} * 1000;
  if (waited.late) {
    result.end = over_cpu ? JailEnd::kCpuLimit : JailEnd::kWallLimit;
  } else if (over_cpu) {
    result.end = JailEnd::kCpuLimit;
  } else if (WIFSIGNALED(waited.status)) {
    result.end = JailEnd::kSignalled;
    result.code = WTERMSIG(waited.status);
  } else {
    result.end = JailEnd::kExited;
    result.code = WEXITSTATUS(waited.status);
  }
  return result;
}

}  // namespace

void LeadRun(const Settled& settled, const JailOrder& order, const LeaderFds& fds) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  char go = 0;
  if (read(fds.go, &go, 1) != 1) _exit(1);  // the jail program is gone, or gave up on this run
  const bool namespaces = settled.settings.namespaces;
  const bool compiles = order.profile == JailProfile::kCompiler;
  const bool has_tree = !compiles && order.has_tree != 0;
  const bool uses_box = !namespaces && (compiles || has_tree);
  const std::string scratch = namespaces ? "/tmp" : settled.settings.box;
  if (namespaces) {
    if (!MountScratch(order.scratch_bytes)) ReportFault(fds.report, "scratch folder");
  } else {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (uses_box) Empty(scratch);  // of what a cancelled run left
  }
  if (has_tree && !PlantTree(fds.extra, scratch)) ReportFault(fds.report, "file tree");
  const auto start = SteadyClock::now();
  int failed[2];  // closed by exec; until then the place to say why there was none
  if (pipe2(failed, O_CLOEXEC) != 0) ReportFault(fds.report, "pipe");
  const pid_t program = fork();
  if (program < 0) ReportFault(fds.report, "fork");
  if (program == 0) {
    close(failed[0]);
    StartProgram(settled, order, fds, scratch, failed[1]);
  }
  setpgid(program, program);  // whoever comes first
  close(failed[1]);
  for (const int fd : {fds.input, fds.output, fds.error, fds.program}) close(fd);
  if (write(fds.report, &program, sizeof program) != sizeof program) _exit(1);

  const Waited waited = WaitForProgram(program, start + std::chrono::milliseconds(order.wall_ms),
                                       settled.proc_fd, fds.report);
  const uint32_t killed = ReapRest(namespaces);
  StartFailure failure;
  if (read(failed[0], &failure, sizeof failure) == sizeof failure) {
    errno = failure.error_number;
    ReportFault(fds.report, failure.step);
  }
  JailResult result = Judge(order, waited, start);
  result.killed = killed;
  if (compiles) result.result_bytes = CollectResult(scratch, fds.extra, order.scratch_bytes);
  if (uses_box) Empty(scratch);
  Report(fds.report, result);
}

}  // namespace tramontane
