#include "verifier/sandbox/jail.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr uid_t kFirstUid = 64000;  // of jails started by root: one user a slot
constexpr int kUids = 1000;
constexpr int64_t kMaxTasks = 96;  // of one run, leader and all
constexpr uint32_t kThreads = 64;
constexpr double kHelloTimeoutS = 20, kReplyGraceS = 10;

absl::Status Broken(const std::string& what) { return absl::UnavailableError("sandbox: " + what); }

absl::Status BrokenErrno(const std::string& what) { return Broken(what + ": " + strerror(errno)); }

int MillisecondsUntil(SteadyClock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - SteadyClock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

SteadyClock::time_point In(double seconds) {
  return SteadyClock::now() +
         std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
}

struct PipeEnds {
  UniqueFd read_end, write_end;
};

absl::StatusOr<PipeEnds> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return BrokenErrno("pipe");
  PipeEnds pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return pipe;
}

// Takes what is there, up to `limit` bytes in all; the rest is read and dropped. False at the end.
bool Drain(int fd, uint64_t limit, std::string& text, bool& overflow) {
  char buffer[1 << 16];
  while (true) {
    const ssize_t size = read(fd, buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return size < 0;
    const size_t room = static_cast<size_t>(limit - std::min<uint64_t>(limit, text.size()));
    text.append(buffer, std::min(room, static_cast<size_t>(size)));
    if (static_cast<size_t>(size) > room) {
      overflow = true;
      return true;
    }
  }
}

std::vector<std::string> Arguments(const JailOptions& options, const std::string& box,
                                   size_t cgroups) {
  std::vector<std::string> argv = {
      options.program, std::string("namespaces=") + (options.namespaces ? "1" : "0"),
      "uid=" + std::to_string(kFirstUid + static_cast<uid_t>(options.slot % kUids)),
      "cgroups=" + std::to_string(cgroups)};
  for (const std::string& path : options.readonly_paths) argv.push_back("readonly=" + path);
  if (!options.header_dir.empty()) argv.push_back("headers=" + options.header_dir);
  if (!box.empty()) argv.push_back("box=" + box);
  return argv;
}

// posix_spawn with default signals, a process group of its own, no environment.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, 1, "/dev/null", O_WRONLY, 0);
  }
  ~SpawnPlan() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  void Place(int fd, int at) { posix_spawn_file_actions_adddup2(&actions_, fd, at); }
  int Start(const std::vector<std::string>& argv, pid_t& pid) {
    std::vector<char*> pointers;
    for (const std::string& argument : argv)
      pointers.push_back(const_cast<char*>(argument.c_str()));
    pointers.push_back(nullptr);
    char* environment[] = {nullptr};
    return posix_spawn(&pid, pointers[0], &actions_, &attributes_, pointers.data(), environment);
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace

absl::StatusOr<UniqueFd> SealedFile(std::string_view bytes) {
  UniqueFd fd(memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return absl::ResourceExhaustedError(std::string("memfd: ") + strerror(errno));
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t written =
        pwrite(fd.get(), bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (written <= 0) return absl::ResourceExhaustedError(std::string("memfd: ") + strerror(errno));
    at += static_cast<size_t>(written);
  }
  fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  return fd;
}

Jail::Jail(const JailOptions& options)
    : cgroup_(options.slot, kMaxTasks, options.max_memory_bytes) {}

absl::StatusOr<std::unique_ptr<Jail>> Jail::Start(const JailOptions& options) {
  std::unique_ptr<Jail> jail(new Jail(options));
  RETURN_IF_ERROR(jail->Spawn(options));
  RETURN_IF_ERROR(jail->ReadHello());
  return jail;
}

absl::Status Jail::Spawn(const JailOptions& options) {
  if (access(options.program.c_str(), X_OK) != 0) {
    return absl::NotFoundError("sandbox: no program " + options.program);
  }
  if (!options.namespaces) {
    std::string name = std::filesystem::temp_directory_path() / "tramontane-box-XXXXXX";
    if (!mkdtemp(name.data())) return ErrnoStatus(errno, name);
    box_ = name;
  }
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
    return BrokenErrno("socketpair");
  }
  socket_ = UniqueFd(sockets[0]);
  const UniqueFd theirs(sockets[1]);
  // Duplicated out of the way first, so that no source is overwritten by another's target.
  std::vector<UniqueFd> high;
  high.emplace_back(fcntl(theirs.get(), F_DUPFD_CLOEXEC, 64));
  for (const UniqueFd& procs : cgroup_.procs_files()) {
    high.emplace_back(fcntl(procs.get(), F_DUPFD_CLOEXEC, 64));
  }
  SpawnPlan plan;
  for (size_t i = 0; i < high.size(); ++i) {
    plan.Place(high[i].get(), kJailSocketFd + static_cast<int>(i));
  }
  const int error = plan.Start(Arguments(options, box_, cgroup_.procs_files().size()), pid_);
  if (error != 0) return ErrnoStatus(error, options.program);
  pid_fd_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  return absl::OkStatus();
}

absl::Status Jail::ReadHello() {
  pollfd ready{socket_.get(), POLLIN, 0};
  const auto end = In(kHelloTimeoutS);
  while (poll(&ready, 1, MillisecondsUntil(end)) < 0 && errno == EINTR) {
  }
  JailHello hello{};
  const ssize_t size = recv(socket_.get(), &hello, sizeof hello, MSG_DONTWAIT);
  if (size != sizeof hello) return Broken("the jail program ended or hung while it started");
  if (hello.version != kJailWireVersion) return Broken("the jail program is of another build");
  if (!hello.ready) {
    return absl::FailedPreconditionError(std::string("sandbox: ") + hello.message);
  }
  layers_ = hello.layers | cgroup_.layers();
  landlock_abi_ = hello.landlock_abi;
  return absl::OkStatus();
}

Jail::~Jail() {
  socket_.Reset();
  if (pid_ > 0) {
    kill(pid_, SIGKILL);  // its leaders and their programs follow it by their parent-death signal
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  std::error_code ignored;
  if (!box_.empty()) std::filesystem::remove_all(box_, ignored);
}

absl::Status Jail::Send(const JailTask& task, int input, int output, int error, int extra) {
  JailOrder order{};
  order.profile = task.profile;
  order.executes_program_fd = task.executes_program_fd;
  order.has_tree = task.tree_fd >= 0;
  order.cpu_ms = static_cast<uint32_t>(task.cpu_s * 1000);
  order.wall_ms = static_cast<uint32_t>(task.wall_s * 1000);
  order.memory_bytes = task.memory_bytes;
  order.scratch_bytes = task.scratch_bytes;
  order.threads = kThreads;
  order.argc = static_cast<uint32_t>(task.argv.size());
  for (const std::string& argument : task.argv) {
    if (order.text_bytes + argument.size() + 1 > sizeof order.text) {
      return absl::InvalidArgumentError("sandbox: arguments are too long");
    }
    memcpy(order.text + order.text_bytes, argument.c_str(), argument.size() + 1);
    order.text_bytes += static_cast<uint32_t>(argument.size() + 1);
  }
  const int fds[kJailOrderFds] = {input, output, error, task.program_fd, extra};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
  iovec data{&order, sizeof order};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  memcpy(CMSG_DATA(header), fds, sizeof fds);
  if (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) return BrokenErrno("the jail is gone");
  return absl::OkStatus();
}

absl::Status Jail::Converse(const JailTask& task, int output, int error, JailRun& run) {
  const auto end = In(task.wall_s + kReplyGraceS);
  pollfd fds[] = {{socket_.get(), POLLIN, 0}, {output, POLLIN, 0}, {error, POLLIN, 0}};
  bool ignored = false;
  while (true) {
    const int ready = poll(fds, 3, MillisecondsUntil(end));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Broken("the jail did not answer in time");
    if (fds[1].revents && !Drain(output, task.output_bytes, run.output, run.output_overflow)) {
      fds[1].fd = -1;
    }
    if (fds[2].revents && !Drain(error, task.error_bytes, run.error, ignored)) fds[2].fd = -1;
    if (run.output_overflow && fds[1].fd >= 0) {
      fds[1].fd = -1;
      if (send(socket_.get(), "", 1, MSG_NOSIGNAL) < 0) return BrokenErrno("the jail is gone");
    }
    if (!fds[0].revents) continue;
    const ssize_t size = recv(socket_.get(), &run.result, sizeof run.result, MSG_DONTWAIT);
    if (size != sizeof run.result) return Broken("the jail ended during a run");
    // All that could write is dead; what it wrote is in the pipes.
    if (fds[1].fd >= 0) Drain(output, task.output_bytes, run.output, run.output_overflow);
    if (fds[2].fd >= 0) Drain(error, task.error_bytes, run.error, ignored);
    return absl::OkStatus();
  }
}

absl::StatusOr<JailRun> Jail::Run(const JailTask& task) {
  ASSIGN_OR_RETURN(const UniqueFd input, SealedFile(task.input));
  ASSIGN_OR_RETURN(PipeEnds output, MakePipe());
  ASSIGN_OR_RETURN(PipeEnds error, MakePipe());
  JailRun run;
  // Every order carries five descriptors; those without meaning are this one.
  UniqueFd result(memfd_create("result", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!result.valid()) return BrokenErrno("memfd");
  JailTask sent = task;
  if (sent.program_fd < 0) sent.program_fd = input.get();
  RETURN_IF_ERROR(Send(sent, input.get(), output.write_end.get(), error.write_end.get(),
                       task.tree_fd >= 0 ? task.tree_fd : result.get()));
  output.write_end.Reset();
  error.write_end.Reset();
  RETURN_IF_ERROR(Converse(task, output.read_end.get(), error.read_end.get(), run));
  run.result.message[sizeof run.result.message - 1] = 0;
  if (run.result.end == JailEnd::kFault) return Broken(run.result.message);
  if (run.result.result_bytes > 0) {
    fcntl(result.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    run.compiled = std::move(result);
  }
  return run;
}

}  // namespace tramontane
