// Keeps the processes of a run alive: starts them, reads their JSON lines, restarts the dead with
// backoff, and gives up in time. It knows nothing of what they do.
//
// One thread: everything happens inside Poll().
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/child_process.h"
#include "common/clock.h"
#include "common/rollout.h"

namespace tramontane {

struct RestartPolicy {
  // kOnSignal: also when it asks for another try by exiting with kTryAgainExit.
  enum class When { kNever, kOnSignal, kAlways };
  When when = When::kAlways;
  int max_in_a_row = 5;          // restarts without a healthy stretch between them
  double healthy_after_s = 60;   // up and listening for this long: the count starts anew
  double first_backoff_s = 0.5;  // doubled each time
  double max_backoff_s = 10;
};

struct ProcessSpec {
  std::string name;  // "generator-0"
  std::string kind;  // "trainer" | "generator" | "verifier" | "redis"
  std::vector<std::string> argv;
  std::vector<std::string> restart_argv = {};  // empty: argv
  RestartPolicy restart = {};
};

struct SupervisorEvent {
  enum class Kind {
    kLine,       // a line of standard output that is not the listening line
    kListening,  // the process is ready; `json` is its line
    kDied,       // it will be started again
    kRestarted,
    kEnded,   // dead for good: clean exit, never to be restarted, or asked to stop
    kGaveUp,  // dead too often; `text` says how
  };
  Kind kind;
  std::string process;
  std::string text;  // the line, or what happened
  Json json;         // the line parsed; null when it is not a JSON object
  std::optional<ExitStatus> exit;
};

// What `tramontane status` needs to know of a process.
struct ProcessView {
  std::string name, kind, address, metrics_address, log_path;
  int pid = -1;      // -1: not running now
  int restarts = 0;  // over the whole run
};

class Supervisor {
 public:
  // Logs go to <log_dir>/<name>.log. Poll returns early when `wake_fd` is readable (-1: none).
  Supervisor(std::string log_dir, const Clock& clock, int wake_fd = -1);

  absl::Status Start(ProcessSpec spec);
  std::vector<SupervisorEvent> Poll(int timeout_ms);

  // SIGTERM, no restart; SIGKILL to the group after `grace_s`. Poll reports kEnded.
  void Stop(const std::string& name, double grace_s);
  void Kill(const std::string& name);
  bool AnyAlive(const std::string& kind) const;
  // Where it listens, for a process that does not say so itself.
  void SetAddress(const std::string& name, std::string address);

  std::vector<ProcessView> processes() const;
  // The last lines of its log, for the message that tells why a run failed.
  std::string LastLines(const std::string& name, int count) const;
  int total_restarts() const;

 private:
  struct Process {
    ProcessSpec spec;
    std::optional<ChildProcess> child;
    std::string address, metrics_address;
    bool ready = false, stopping = false, ended = false;
    int restarts = 0, restarts_in_a_row = 0;
    int64_t started_ms = 0;
    std::optional<int64_t> restart_at_ms, kill_at_ms;
  };

  Process* Find(const std::string& name);
  std::string LogPath(const std::string& name) const;
  int WaitMs(int timeout_ms) const;
  void Wait(int timeout_ms) const;
  void ReadOutput(Process& process, std::vector<SupervisorEvent>& events);
  void HandleExit(Process& process, const ExitStatus& exit, std::vector<SupervisorEvent>& events);
  void Restart(Process& process, std::vector<SupervisorEvent>& events);

  const std::string log_dir_;
  const Clock& clock_;
  const int wake_fd_;
  std::vector<Process> processes_;
};

}  // namespace tramontane
