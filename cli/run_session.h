// One attempt at a run on this machine: Redis, verifiers, trainer and generators in that order (the
// trainer alone for kinds that need no more), supervised until the trainer is done, then stopped in
// the opposite order.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "cli/busy_meter.h"
#include "cli/progress.h"
#include "cli/run_dir.h"
#include "cli/supervisor.h"
#include "cli/verifier_launch.h"
#include "common/clock.h"
#include "common/config.h"

namespace tramontane {

class RunSession {
 public:
  struct Options {
    std::string binary_dir;  // where tramontane-{trainer,generator,verifier} lie
    bool resume = false;
  };
  // Masks SIGINT and SIGTERM and takes them as requests to stop; a second one ends at once.
  // `dir`, `printer` and `clock` outlive the session.
  RunSession(RunConfig config, RunDir& dir, Options options, ProgressPrinter& printer,
             const Clock& clock);
  ~RunSession();

  // OK: the trainer finished. Cancelled: stopped on request. Otherwise the first failure: what the
  // failed process itself said, or else the last lines of its log. Nothing of the run is left
  // behind running.
  absl::Status Run();

  int restarts() const { return supervisor_.total_restarts(); }
  // Between this attempt's first optimiser step and its last; empty when there were too few.
  std::optional<double> generator_busy_share() const {
    return engines_.Share(config_.generator.count);
  }

 private:
  absl::Status StartAll();
  absl::Status StartRedis();
  absl::Status StartVerifiers();
  absl::Status StartVerifier(const std::string& name, VerifierSection& verifier);
  absl::Status StartTrainer();
  absl::Status StartGenerators();
  absl::Status AwaitVerifier(const std::string& process, const VerifierLaunch& launch);
  void LookAtGenerators();
  absl::Status AwaitReady(const std::string& process, double timeout_s);
  void StopEverything();
  void StopKind(const std::string& kind, double grace_s);

  void Pump();
  void ReadSignals();
  void Handle(const SupervisorEvent& event);
  bool IsHopeless(const std::string& process) const;
  void HandleLine(const SupervisorEvent& event);
  void HandleEnd(const SupervisorEvent& event);
  void Fail(const std::string& process, const std::string& text);
  void PublishEndpoints();
  std::string AddressOf(const std::string& process) const;
  std::string Binary(const std::string& name) const;

  const RunConfig config_;
  RunConfig resolved_;  // config_ with this attempt's addresses
  RunDir& dir_;
  const Options options_;
  ProgressPrinter& printer_;
  const Clock& clock_;
  int signal_fd_;
  Supervisor supervisor_;
  bool stop_requested_ = false, stopping_ = false, trainer_done_ = false;
  absl::Status failure_;                            // the first one
  std::map<std::string, absl::Status> last_words_;  // process → why it ended, in its own words
  bool finished_ = false;                           // the trainer said so
  BusyMeter engines_;
  int64_t next_look_ms_ = 0;
};

}  // namespace tramontane
