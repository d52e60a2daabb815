#include "cli/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

// A line longer than this is cut: a child that never ends a line must not fill our memory.
constexpr size_t kMaxLineBytes = size_t{4} << 20;

void CloseFd(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

// Runs in the child between fork and exec: async-signal-safe calls only. `report` carries errno
// back; exec closes it on success.
[[noreturn]] void Exec(char* const* argv, int output, int log, int report, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::setpgid(0, 0);  // a Ctrl-C of the terminal reaches us alone: we decide the order of the end
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDONLY);
  if (::getppid() != parent || null < 0 || ::dup2(null, 0) < 0 || ::dup2(output, 1) < 0 ||
      ::dup2(log, 2) < 0) {
    ::_exit(127);
  }
  ::execvp(argv[0], argv);
  const int error = errno;
  (void)!::write(report, &error, sizeof error);
  ::_exit(127);
}

void WriteBestEffort(int fd, const std::string& text) {
  // The log is for people: a full disk must not stop the supervision of the run.
  (void)!::write(fd, text.data(), text.size());
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (!by_signal) return "exit status " + std::to_string(code);
  const char* name = ::sigdescr_np(code);
  return "signal " + std::to_string(code) + " (" + (name ? name : "?") + ")";
}

absl::StatusOr<ChildProcess> ChildProcess::Start(const std::vector<std::string>& argv,
                                                 const std::string& log_path) {
  ChildProcess child;
  child.log_fd_ = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (child.log_fd_ < 0) return ErrnoStatus(errno, log_path);
  int output[2], report[2];
  if (::pipe2(output, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  if (::pipe2(report, O_CLOEXEC) != 0) {
    const int error = errno;
    ::close(output[0]), ::close(output[1]);
    return ErrnoStatus(error, "pipe");
  }
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  const pid_t parent = ::getpid();
  child.pid_ = ::fork();
  if (child.pid_ == 0) Exec(args.data(), output[1], child.log_fd_, report[1], parent);
  const int fork_error = errno;
  ::close(output[1]), ::close(report[1]);
  child.output_fd_ = output[0];
  int exec_error = 0;
  const bool failed = child.pid_ > 0 && ::read(report[0], &exec_error, sizeof exec_error) > 0;
  ::close(report[0]);
  if (child.pid_ < 0) return ErrnoStatus(fork_error, "fork");
  if (failed) return ErrnoStatus(exec_error, "cannot start " + argv[0]);
  ::setpgid(child.pid_, child.pid_);  // as the child does: whoever comes first
  ::fcntl(child.output_fd_, F_SETFL, O_NONBLOCK);
  child.pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0));
  if (child.pid_fd_ < 0) return ErrnoStatus(errno, "pidfd_open");
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept { *this = std::move(other); }

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  Close();
  pid_ = std::exchange(other.pid_, -1);
  pid_fd_ = std::exchange(other.pid_fd_, -1);
  output_fd_ = std::exchange(other.output_fd_, -1);
  log_fd_ = std::exchange(other.log_fd_, -1);
  partial_ = std::move(other.partial_);
  exit_ = other.exit_;
  return *this;
}

ChildProcess::~ChildProcess() { Close(); }

void ChildProcess::Close() {
  if (pid_ > 0 && !exit_) {
    SignalGroup(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_ = -1;
  CloseFd(pid_fd_);
  CloseFd(output_fd_);
  CloseFd(log_fd_);
}

std::vector<std::string> ChildProcess::ReadLines() {
  std::vector<std::string> lines;
  char buffer[16384];
  while (output_fd_ >= 0) {
    const ssize_t n = ::read(output_fd_, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;  // EAGAIN: nothing more for now
    if (n == 0) {
      CloseFd(output_fd_);
      if (!partial_.empty()) lines.push_back(std::exchange(partial_, {}));
      break;
    }
    partial_.append(buffer, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = partial_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      lines.push_back(partial_.substr(begin, end - begin));
    }
    partial_.erase(0, begin);
    if (partial_.size() > kMaxLineBytes) lines.push_back(std::exchange(partial_, {}));
  }
  for (const std::string& line : lines) WriteBestEffort(log_fd_, line + "\n");
  return lines;
}

std::optional<ExitStatus> ChildProcess::Poll() {
  if (exit_ || pid_ <= 0) return exit_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  exit_ = WIFSIGNALED(status) ? ExitStatus{true, WTERMSIG(status)}
                              : ExitStatus{false, WEXITSTATUS(status)};
  return exit_;
}

void ChildProcess::Signal(int signal) const {
  if (pid_ > 0 && !exit_) ::kill(pid_, signal);
}

void ChildProcess::SignalGroup(int signal) const {
  if (pid_ > 0 && !exit_) ::kill(-pid_, signal);
}

absl::StatusOr<FinishedProgram> RunToEnd(const std::vector<std::string>& argv,
                                         const std::string& log_path, double timeout_s) {
  ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::Start(argv, log_path));
  const auto start = std::chrono::steady_clock::now();
  FinishedProgram finished;
  const auto read = [&] {
    for (const std::string& line : child.ReadLines()) finished.output += line + "\n";
  };
  while (SecondsSince(start) < timeout_s) {
    pollfd fds[] = {{child.pid_fd(), POLLIN, 0}, {child.output_fd(), POLLIN, 0}};
    ::poll(fds, 2, 100);
    const auto exit = child.Poll();
    read();
    if (!exit) continue;
    finished.exit = *exit;
    return finished;
  }
  return absl::DeadlineExceededError(argv[0] + " did not end in time");
}

}  // namespace tramontane
