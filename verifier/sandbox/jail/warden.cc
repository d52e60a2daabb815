#include "verifier/sandbox/jail/warden.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

namespace tramontane {
namespace {

constexpr int kGraceMs = 3000;  // of a leader beyond its run's deadline

struct Received {
  bool closed = false;
  JailOrder order;
  int fds[kJailOrderFds] = {-1, -1, -1, -1, -1};
  bool valid = false;
};

bool Plausible(const JailOrder& order, ssize_t size) {
  return size == sizeof order && order.profile <= JailProfile::kCompiler && order.argc > 0 &&
         order.text_bytes > 0 && order.text_bytes <= sizeof order.text &&
         order.text[order.text_bytes - 1] == 0;
}

Received Receive(int socket) {
  Received received;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof received.fds)];
  iovec data{&received.order, sizeof received.order};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size = 0;
  do {
    size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  received.closed = size <= 0;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (received.closed || !header || header->cmsg_type != SCM_RIGHTS) return received;
  const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  memcpy(received.fds, CMSG_DATA(header), count * sizeof(int));
  received.valid = count == kJailOrderFds && Plausible(received.order, size);
  return received;
}

JailResult Fault(const std::string& what) {
  JailResult result{};
  result.end = JailEnd::kFault;
  snprintf(result.message, sizeof result.message, "%s: %s", what.c_str(), strerror(errno));
  return result;
}

struct Pipe {
  int read_end = -1, write_end = -1;
  bool Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    read_end = ends[0];
    write_end = ends[1];
    return true;
  }
  void Close() {
    if (read_end >= 0) close(read_end);
    if (write_end >= 0) close(write_end);
    read_end = write_end = -1;
  }
};

// A copy of this process in namespaces of its own; like fork.
pid_t ForkLeader(bool namespaces, int& pid_fd) {
  clone_args args{};
  args.flags = CLONE_PIDFD;
  if (namespaces) args.flags |= CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC;
  args.pidfd = reinterpret_cast<uint64_t>(&pid_fd);
  args.exit_signal = SIGCHLD;
  return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
}

bool JoinCgroups(const std::vector<int>& cgroups, pid_t pid) {
  const std::string text = std::to_string(pid);
  for (const int fd : cgroups) {
    if (pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) return false;
  }
  return true;
}

enum class Wake { kDone, kTooLate, kCancelled };

Wake WaitForLeader(int pid_fd, int socket, int timeout_ms) {
  pollfd fds[] = {{pid_fd, POLLIN, 0}, {socket, POLLIN, 0}};
  int ready = 0;
  do {  // interrupted waits start anew; nothing interrupts this process in ordinary life
    ready = poll(fds, 2, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return Wake::kTooLate;
  if (fds[0].revents != 0) return Wake::kDone;
  char byte = 0;  // a cancellation; an end of file stays readable for the main loop
  return recv(socket, &byte, 1, MSG_DONTWAIT) >= 0 ? Wake::kCancelled : Wake::kTooLate;
}

// Nothing of a run may outlive it: reaps all, and in the case without namespaces kills its group.
void EndRun(bool namespaces, pid_t leader, pid_t program, Wake wake) {
  if (wake != Wake::kDone) kill(leader, SIGKILL);
  if (!namespaces && program > 0) kill(-program, SIGKILL);
  while (true) {
    const pid_t pid = waitpid(-1, nullptr, __WALL);
    if (pid < 0 && errno != EINTR) return;
  }
}

JailResult ReadReport(int fd, Wake wake, pid_t& program) {
  JailResult result{};
  const bool started = read(fd, &program, sizeof program) == sizeof program;
  const ssize_t size = started ? read(fd, &result, sizeof result) : -1;
  if (size == sizeof result) return result;
  if (wake == Wake::kCancelled) {
    result = {};
    result.end = JailEnd::kCancelled;
    return result;
  }
  errno = wake == Wake::kTooLate ? ETIMEDOUT : ECHILD;
  return Fault("the run's leader ended early");
}

JailResult Run(const Settled& settled, const Received& received, int socket,
               const std::vector<int>& cgroups) {
  Pipe go, report;
  if (!go.Open() || !report.Open()) return Fault("pipe");
  const bool namespaces = settled.settings.namespaces;
  int pid_fd = -1;
  const pid_t leader = ForkLeader(namespaces, pid_fd);
  if (leader == 0) {
    close(go.write_end);
    close(report.read_end);
    const int* fds = received.fds;
    LeadRun(settled, received.order,
            {fds[0], fds[1], fds[2], fds[3], fds[4], go.read_end, report.write_end});
  }
  JailResult result = Fault("clone");
  if (leader > 0) {
    close(report.write_end);
    report.write_end = -1;
    const bool joined = JoinCgroups(cgroups, leader);
    if (!joined) result = Fault("cgroup");
    if (joined && write(go.write_end, "", 1) != 1) result = Fault("pipe");
    go.Close();  // without the byte the leader ends
    const Wake wake =
        WaitForLeader(pid_fd, socket, static_cast<int>(received.order.wall_ms) + kGraceMs);
    fcntl(report.read_end, F_SETFL, O_NONBLOCK);
    if (wake != Wake::kDone) kill(leader, SIGKILL);
    pid_t program = 0;
    if (joined) result = ReadReport(report.read_end, wake, program);
    EndRun(namespaces, leader, program, wake);
  }
  if (pid_fd >= 0) close(pid_fd);
  go.Close();
  report.Close();
  return result;
}

}  // namespace

void ServeOrders(const Settled& settled, int socket, const std::vector<int>& cgroups) {
  while (true) {
    const Received received = Receive(socket);
    if (received.closed) return;
    JailResult result{};
    // A cancellation that came too late is one byte without descriptors; nobody waits for an
    // answer.
    if (received.valid) result = Run(settled, received, socket, cgroups);
    for (const int fd : received.fds) {
      if (fd >= 0) close(fd);
    }
    if (received.valid && send(socket, &result, sizeof result, MSG_NOSIGNAL) < 0) return;
  }
}

}  // namespace tramontane
