#include "services/stop_watcher.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdlib>

#include "common/log.h"

namespace tramontane {
namespace {

constexpr int kPollMs = 500;

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

StopWatcher::StopWatcher(bool exit_with_parent, double overdue_after_s)
    : default_overdue_s_(overdue_after_s) {
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of a write, not a death
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (exit_with_parent) {
    const pid_t parent = ::getppid();
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    // The parent may have died between the two calls; the kernel then sends nothing.
    if (::getppid() != parent) Request("the parent process died");
  }
  thread_ = std::thread([this] { Watch(); });
}

StopWatcher::~StopWatcher() {
  finished_ = true;
  Wake();
  thread_.join();
}

void StopWatcher::Wake() {
  const uint64_t one = 1;
  // A full counter has woken the reader already.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void StopWatcher::Request(const std::string& reason, std::optional<double> overdue_after_s) {
  {
    std::lock_guard lock(mutex_);
    if (overdue_at_.has_value()) return;
    overdue_at_ = std::chrono::steady_clock::now() +
                  std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                      std::chrono::duration<double>(overdue_after_s.value_or(default_overdue_s_)));
    requested_ = true;
  }
  LogInfo("stopping", {{"reason", reason}});
  changed_.notify_all();
  Wake();
}

void StopWatcher::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return requested_.load(); });
}

void StopWatcher::EndIfOverdue() {
  std::unique_lock lock(mutex_);
  if (!overdue_at_.has_value() || std::chrono::steady_clock::now() < *overdue_at_) return;
  lock.unlock();
  LogError("shutdown_overdue", {{"reason", "the process did not end within its drain deadline"}});
  // Some thread hangs: destructors would wait for it.
  std::_Exit(1);
}

void StopWatcher::Watch() {
  while (!finished_) {
    pollfd fds[2] = {{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    ::poll(fds, 2, kPollMs);
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
      Request(info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
    }
    uint64_t count;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof(count));
    EndIfOverdue();
  }
}

}  // namespace tramontane
