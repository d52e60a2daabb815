#include "verifier/algebra/algebra.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "verifier/algebra/algebra_script.h"

namespace tramontane {
namespace {

constexpr size_t kMaxReplyBytes = 4096;
constexpr int kPollMs = 20;
constexpr int kChildSocketFd = 3;

Counter Outcomes(MetricsRegistry& metrics, const char* outcome) {
  return metrics.MakeCounter("tramontane_verifier_algebra_opinions_total", {{"outcome", outcome}});
}

// Processor time of another process; 0 when it is gone.
double CpuSecondsOf(pid_t pid) {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::string EnvironmentFolder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  if (const std::string named = variable("TRAMONTANE_PYTHON_VERIFIER"); !named.empty()) return named;
  const std::string cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? variable("HOME") + "/.cache" : cache) + "/tramontane/python-verifier";
}

// "1.14.0" of lib/python3.11/site-packages/sympy-1.14.0.dist-info; empty: there is none.
std::string SympyVersion(const std::string& environment) {
  constexpr std::string_view kPrefix = "sympy-", kSuffix = ".dist-info";
  std::error_code error;
  for (const auto& lib : std::filesystem::directory_iterator(environment + "/lib", error)) {
    const std::filesystem::path site = lib.path() / "site-packages";
    for (const auto& entry : std::filesystem::directory_iterator(site, error)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
      return name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<AlgebraOptions> FindAlgebra() {
  const std::string environment = EnvironmentFolder();
  AlgebraOptions options;
  options.python = environment + "/bin/python";
  options.version = SympyVersion(environment);
  if (options.version.empty() || access(options.python.c_str(), X_OK) != 0) {
    return absl::NotFoundError("no computer algebra: " + environment +
                               " has no SymPy (deps/make-python-verifier.sh installs it)");
  }
  return options;
}

Algebra::Algebra(AlgebraOptions options, MetricsRegistry& metrics)
    : options_(std::move(options)),
      equal_(Outcomes(metrics, "equal")),
      unequal_(Outcomes(metrics, "unequal")),
      undecided_(Outcomes(metrics, "undecided")),
      killed_(Outcomes(metrics, "killed")) {}

Algebra::~Algebra() { End(); }

std::optional<pid_t> Algebra::pid() const {
  std::lock_guard lock(mutex_);
  return child_ ? std::optional(child_->pid) : std::nullopt;
}

absl::Status Algebra::Start() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus(errno, "socketpair");
  }
  Child child;
  child.socket = UniqueFd(ends[0]);
  // Out of the way of its place in the child: a descriptor put over itself would stay closed there.
  const UniqueFd theirs(fcntl(ends[1], F_DUPFD_CLOEXEC, 64));
  close(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), kChildSocketFd);
  std::string memory = std::to_string(options_.memory_bytes), seed = "PYTHONHASHSEED=0";
  std::string python = options_.python, script = kAlgebraScript;
  char isolated[] = "-I", command[] = "-c";
  char* argv[] = {python.data(), isolated, command, script.data(), memory.data(), nullptr};
  char* environment[] = {seed.data(), nullptr};
  const int error = posix_spawn(&child.pid, python.c_str(), &actions, nullptr, argv, environment);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, python);
  child_ = std::move(child);
  return ReadLine(options_.start_timeout_s, options_.start_timeout_s).status();
}

void Algebra::End() {
  if (!child_) return;
  kill(child_->pid, SIGKILL);
  while (waitpid(child_->pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  child_.reset();
}

absl::StatusOr<std::string> Algebra::ReadLine(double cpu_s, double wall_s) {
  const auto start = std::chrono::steady_clock::now();
  const double cpu_before_s = CpuSecondsOf(child_->pid);
  std::string line;
  while (true) {
    pollfd ready{child_->socket.get(), POLLIN, 0};
    if (poll(&ready, 1, kPollMs) > 0) {
      char buffer[1024];
      const ssize_t size = recv(child_->socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (size == 0) return absl::UnavailableError("it ended");
      if (size > 0) line.append(buffer, static_cast<size_t>(size));
      if (line.ends_with('\n')) return line;
      if (line.size() > kMaxReplyBytes) return absl::UnavailableError("it says too much");
    }
    if (CpuSecondsOf(child_->pid) - cpu_before_s > cpu_s || SecondsSince(start) > wall_s) {
      return absl::DeadlineExceededError("it took too long");
    }
  }
}

absl::StatusOr<std::string> Algebra::Ask(const std::string& question, double timeout_s) {
  if (!child_) RETURN_IF_ERROR(Start());
  // A child that does not read holds nobody up: questions are smaller than a socket's buffer.
  const ssize_t size =
      send(child_->socket.get(), question.data(), question.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (size != static_cast<ssize_t>(question.size())) return absl::UnavailableError("it is gone");
  return ReadLine(timeout_s, 5 * timeout_s + 5);
}

std::optional<bool> Algebra::Same(const std::string& gold, const std::string& answer,
                                  double timeout_s) {
  std::lock_guard lock(mutex_);
  const absl::StatusOr<std::string> line = Ask("[" + gold + "," + answer + "]\n", timeout_s);
  if (!line.ok()) {
    LogWarn("algebra_killed", {{"reason", std::string(line.status().message())}});
    End();
    killed_.Add();
    return std::nullopt;
  }
  const nlohmann::json same = nlohmann::json::parse(*line, nullptr, /*allow_exceptions=*/false);
  if (!same.is_boolean()) {
    undecided_.Add();
    return std::nullopt;
  }
  (same.get<bool>() ? equal_ : unequal_).Add();
  return same.get<bool>();
}

}  // namespace tramontane
