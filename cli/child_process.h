// One child process as a value: started with its standard output on a pipe and its standard error
// in a log file, watched by pidfd, ended with its whole process group when the value dies.
//
// One thread (fork and the parent-death signal belong to the thread that starts the child).
// Children receive SIGTERM when this process dies, however it dies.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

struct ExitStatus {
  bool by_signal = false;
  int code = 0;  // exit code, or the signal's number

  bool clean() const { return !by_signal && code == 0; }
  std::string ToString() const;  // "exit status 1", "signal 9 (Killed)"
};

class ChildProcess {
 public:
  // argv[0] is a path or is looked up in PATH. Standard input is /dev/null. Errors: NotFound (no
  // such program), what opening the log file gives.
  static absl::StatusOr<ChildProcess> Start(const std::vector<std::string>& argv,
                                            const std::string& log_path);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // SIGKILL to the group, then reaps

  pid_t pid() const { return pid_; }
  int pid_fd() const { return pid_fd_; }        // readable once the child is dead
  int output_fd() const { return output_fd_; }  // -1 after its end of file

  // Complete lines that have arrived on standard output, without the newline; never blocks.
  // Each line is appended to the log file as well.
  std::vector<std::string> ReadLines();

  // The exit status once the child is dead; never blocks.
  std::optional<ExitStatus> Poll();
  void Signal(int signal) const;       // to the child alone; nothing when it is dead
  void SignalGroup(int signal) const;  // to it and its own children

 private:
  ChildProcess() = default;
  void Close();

  pid_t pid_ = -1;
  int pid_fd_ = -1, output_fd_ = -1, log_fd_ = -1;
  std::string partial_;  // the beginning of a line that is not complete yet
  std::optional<ExitStatus> exit_;
};

struct FinishedProgram {
  ExitStatus exit;
  std::string output;  // standard output
};

// Runs a program to its end. DeadlineExceeded after `timeout_s` (it is then killed).
absl::StatusOr<FinishedProgram> RunToEnd(const std::vector<std::string>& argv,
                                         const std::string& log_path, double timeout_s);

}  // namespace tramontane
