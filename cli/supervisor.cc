#include "cli/supervisor.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <utility>

#include "common/exit_codes.h"
#include "common/status.h"

namespace tramontane {
namespace {

using Event = SupervisorEvent;

int64_t ToMs(double seconds) { return static_cast<int64_t>(seconds * 1000); }

Json ParseObject(const std::string& line) {
  Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : Json();
}

}  // namespace

Supervisor::Supervisor(std::string log_dir, const Clock& clock, int wake_fd)
    : log_dir_(std::move(log_dir)), clock_(clock), wake_fd_(wake_fd) {}

std::string Supervisor::LogPath(const std::string& name) const {
  return log_dir_ + "/" + name + ".log";
}

Supervisor::Process* Supervisor::Find(const std::string& name) {
  auto it = std::find_if(processes_.begin(), processes_.end(),
                         [&](const Process& p) { return p.spec.name == name; });
  return it == processes_.end() ? nullptr : &*it;
}

absl::Status Supervisor::Start(ProcessSpec spec) {
  if (Find(spec.name)) return absl::AlreadyExistsError(spec.name + " was started before");
  auto child = ChildProcess::Start(spec.argv, LogPath(spec.name));
  if (!child.ok()) return Annotate(child.status(), spec.name);
  Process process;
  process.spec = std::move(spec);
  process.child = *std::move(child);
  process.started_ms = clock_.NowMonotonicMs();
  processes_.push_back(std::move(process));
  return absl::OkStatus();
}

std::vector<Event> Supervisor::Poll(int timeout_ms) {
  Wait(WaitMs(timeout_ms));
  std::vector<Event> events;
  for (Process& process : processes_) {
    if (process.child) {
      const std::optional<ExitStatus> exit = process.child->Poll();
      ReadOutput(process, events);  // after the exit check: a dead child's last words are complete
      if (exit) HandleExit(process, *exit, events);
    }
    const int64_t now = clock_.NowMonotonicMs();
    if (process.child && process.kill_at_ms && now >= *process.kill_at_ms) {
      process.child->SignalGroup(SIGKILL);
      process.kill_at_ms.reset();
    }
    if (process.restart_at_ms && now >= *process.restart_at_ms) Restart(process, events);
  }
  return events;
}

// Until the next thing that time alone brings about, `timeout_ms` at most.
int Supervisor::WaitMs(int timeout_ms) const {
  const int64_t now = clock_.NowMonotonicMs();
  int64_t wait = timeout_ms;
  for (const Process& process : processes_) {
    for (const auto& due : {process.restart_at_ms, process.kill_at_ms}) {
      if (due) wait = std::min(wait, std::max<int64_t>(0, *due - now));
    }
  }
  return static_cast<int>(wait);
}

void Supervisor::Wait(int timeout_ms) const {
  std::vector<pollfd> fds;
  if (wake_fd_ >= 0) fds.push_back({wake_fd_, POLLIN, 0});
  for (const Process& process : processes_) {
    if (!process.child) continue;
    fds.push_back({process.child->pid_fd(), POLLIN, 0});
    if (process.child->output_fd() >= 0) fds.push_back({process.child->output_fd(), POLLIN, 0});
  }
  ::poll(fds.data(), fds.size(), timeout_ms);
}

void Supervisor::ReadOutput(Process& process, std::vector<Event>& events) {
  for (std::string& line : process.child->ReadLines()) {
    Event event{Event::Kind::kLine, process.spec.name, std::move(line), {}, {}};
    event.json = ParseObject(event.text);
    if (event.json.is_object() && event.json.value("event", "") == "listening") {
      event.kind = Event::Kind::kListening;
      process.ready = true;
      process.address = event.json.value("address", "");
      process.metrics_address = event.json.value("metrics_address", "");
    }
    events.push_back(std::move(event));
  }
}

void Supervisor::HandleExit(Process& process, const ExitStatus& exit, std::vector<Event>& events) {
  const int64_t now = clock_.NowMonotonicMs();
  const RestartPolicy& policy = process.spec.restart;
  const bool was_healthy =
      process.ready && now - process.started_ms >= ToMs(policy.healthy_after_s);
  process.child.reset();
  process.ready = false;
  process.kill_at_ms.reset();
  if (was_healthy) process.restarts_in_a_row = 0;

  const bool may_go_on = exit.by_signal || exit.code == kTryAgainExit;
  const bool restart =
      !process.stopping && (policy.when == RestartPolicy::When::kAlways ||
                            (policy.when == RestartPolicy::When::kOnSignal && may_go_on));
  const std::string what = process.spec.name + " ended with " + exit.ToString();
  if (!restart) {
    process.ended = true;
    events.push_back({Event::Kind::kEnded, process.spec.name, what, {}, exit});
    return;
  }
  if (process.restarts_in_a_row >= policy.max_in_a_row) {
    process.ended = true;
    events.push_back(
        {Event::Kind::kGaveUp,
         process.spec.name,
         what + ", after " + std::to_string(process.restarts_in_a_row) + " restarts in a row",
         {},
         exit});
    return;
  }
  double backoff = policy.first_backoff_s;
  for (int i = 0; i < process.restarts_in_a_row; ++i)
    backoff = std::min(backoff * 2, policy.max_backoff_s);
  process.restart_at_ms = now + ToMs(backoff);
  ++process.restarts_in_a_row;
  events.push_back({Event::Kind::kDied, process.spec.name, what, {}, exit});
}

void Supervisor::Restart(Process& process, std::vector<Event>& events) {
  process.restart_at_ms.reset();
  const auto& argv =
      process.spec.restart_argv.empty() ? process.spec.argv : process.spec.restart_argv;
  auto child = ChildProcess::Start(argv, LogPath(process.spec.name));
  if (!child.ok()) {
    process.ended = true;
    events.push_back(
        {Event::Kind::kGaveUp, process.spec.name, std::string(child.status().message()), {}, {}});
    return;
  }
  process.child = *std::move(child);
  process.started_ms = clock_.NowMonotonicMs();
  ++process.restarts;
  events.push_back(
      {Event::Kind::kRestarted,
       process.spec.name,
       process.spec.name + " started again (restart " + std::to_string(process.restarts) + ")",
       {},
       {}});
}

void Supervisor::Stop(const std::string& name, double grace_s) {
  Process* process = Find(name);
  if (!process || process->ended) return;
  process->stopping = true;
  process->restart_at_ms.reset();
  if (!process->child) {
    process->ended = true;
    return;
  }
  process->child->Signal(SIGTERM);
  process->child->Signal(SIGCONT);  // a stopped process must wake to hear it
  process->kill_at_ms = clock_.NowMonotonicMs() + ToMs(grace_s);
}

void Supervisor::Kill(const std::string& name) {
  Process* process = Find(name);
  if (!process) return;
  process->stopping = true;
  process->restart_at_ms.reset();
  if (process->child) process->child->SignalGroup(SIGKILL);
}

bool Supervisor::AnyAlive(const std::string& kind) const {
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& p) {
    return p.spec.kind == kind && (p.child || p.restart_at_ms);
  });
}

void Supervisor::SetAddress(const std::string& name, std::string address) {
  if (Process* process = Find(name)) process->address = std::move(address);
}

std::vector<ProcessView> Supervisor::processes() const {
  std::vector<ProcessView> views;
  for (const Process& p : processes_) {
    views.push_back({p.spec.name, p.spec.kind, p.address, p.metrics_address, LogPath(p.spec.name),
                     p.child ? static_cast<int>(p.child->pid()) : -1, p.restarts});
  }
  return views;
}

std::string Supervisor::LastLines(const std::string& name, int count) const {
  std::ifstream log(LogPath(name));
  // A log may be large: only its end is of interest.
  log.seekg(0, std::ios::end);
  const std::streamoff size = log.tellg();
  constexpr std::streamoff kTailBytes = 64 << 10;
  log.seekg(std::max<std::streamoff>(0, size - kTailBytes));
  std::deque<std::string> lines;
  for (std::string line; std::getline(log, line);) {
    lines.push_back(std::move(line));
    if (static_cast<int>(lines.size()) > count) lines.pop_front();
  }
  std::string text;
  for (const std::string& line : lines) text += "  | " + line + "\n";
  return text;
}

int Supervisor::total_restarts() const {
  int total = 0;
  for (const Process& process : processes_) total += process.restarts;
  return total;
}

}  // namespace tramontane
