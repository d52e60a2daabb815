#include "cli/run_session.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "cli/redis_child.h"
#include "cli/registry.h"
#include "cli/status.h"
#include "cli/verifier_launch.h"
#include "common/kind_rules.h"
#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr int kPollMs = 200;
constexpr double kRedisReadyS = 20, kVerifierReadyS = 120, kVerifierProbeS = 1;
constexpr double kLookTimeoutS = 0.5;
constexpr int64_t kLookIntervalMs = 1000;
// The trainer writes a checkpoint before it leaves; the others hold nothing that is not elsewhere.
constexpr double kTrainerGraceS = 130, kServiceGraceS = 35, kRedisGraceS = 10;

int64_t ToMs(double seconds) { return static_cast<int64_t>(seconds * 1000); }

int MaskAndWatchSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  // Here and in all children: a file size limit is an error of a write, not a death.
  ::signal(SIGXFSZ, SIG_IGN);
  return ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

absl::StatusCode CodeNamed(const std::string& name) {
  for (int code = 1; code <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++code) {
    const auto status_code = static_cast<absl::StatusCode>(code);
    if (absl::StatusCodeToString(status_code) == name) return status_code;
  }
  return absl::StatusCode::kAborted;
}

}  // namespace

RunSession::RunSession(RunConfig config, RunDir& dir, Options options, ProgressPrinter& printer,
                       const Clock& clock)
    : config_(std::move(config)),
      resolved_(config_),
      dir_(dir),
      options_(std::move(options)),
      printer_(printer),
      clock_(clock),
      signal_fd_(MaskAndWatchSignals()),
      supervisor_(dir.log_dir(), clock, signal_fd_) {}

RunSession::~RunSession() { ::close(signal_fd_); }

absl::Status RunSession::Run() {
  const absl::Status started = StartAll();
  if (!started.ok() && failure_.ok()) failure_ = started;
  while (failure_.ok() && !stop_requested_ && !trainer_done_) Pump();
  if (stop_requested_ && failure_.ok())
    printer_.Note("stopping: the trainer writes a checkpoint first");
  StopEverything();
  if (!failure_.ok()) return failure_;
  return stop_requested_ && !finished_ ? absl::CancelledError("stopped on request")
                                       : absl::OkStatus();
}

// At steps alone: that is the stretch in which generators and trainer work side by side.
void RunSession::LookAtGenerators() {
  const int64_t now_ms = clock_.NowMonotonicMs();
  if (now_ms < next_look_ms_) return;
  engines_.Look(static_cast<double>(now_ms) / 1000,
                QueryEngineTimes(supervisor_.processes(), kLookTimeoutS));
  // Generators that do not answer must not keep this thread from its children.
  const int64_t took_ms = clock_.NowMonotonicMs() - now_ms;
  next_look_ms_ = now_ms + took_ms + std::max(kLookIntervalMs, 20 * took_ms);
}

absl::Status RunSession::StartAll() {
  RETURN_IF_ERROR(dir_.WriteConfig(config_));
  if (RunsAlone(config_)) {
    RETURN_IF_ERROR(dir_.WriteResolved(resolved_));
    return StartTrainer();
  }
  RETURN_IF_ERROR(StartRedis());
  RETURN_IF_ERROR(StartVerifiers());
  RETURN_IF_ERROR(dir_.WriteResolved(resolved_));
  RETURN_IF_ERROR(StartTrainer());
  return StartGenerators();
}

absl::Status RunSession::StartRedis() {
  if (!config_.redis.url.empty()) return WaitForRedis(config_.redis.url, /*timeout_s=*/5);
  ASSIGN_OR_RETURN(const RedisPlan plan, PlanRedis(dir_.path(), config_.redis));
  resolved_.redis.url = plan.url;
  RETURN_IF_ERROR(supervisor_.Start({.name = "redis", .kind = "redis", .argv = plan.argv}));
  const absl::Status ready = WaitForRedis(plan.url, kRedisReadyS);
  if (!ready.ok()) Fail("redis", "redis-server did not come up: " + std::string(ready.message()));
  return failure_;
}

absl::Status RunSession::StartVerifiers() {
  for (auto& [name, verifier] : resolved_.verifiers) RETURN_IF_ERROR(StartVerifier(name, verifier));
  return absl::OkStatus();
}

// Afterwards `verifier` is an address, whatever it was in the configuration. A restarted verifier
// listens where it listened before, so that generators need not be told.
absl::Status RunSession::StartVerifier(const std::string& name, VerifierSection& verifier) {
  RETURN_IF_ERROR(VerifierRegistry(RegistryFolder()).FillIn(verifier));
  if (!verifier.address.empty()) return absl::OkStatus();
  const std::string process = "verifier-" + name;
  ASSIGN_OR_RETURN(const VerifierLaunch launch, PlanVerifier(name, verifier, options_.binary_dir,
                                                             dir_.config_path(), /*metrics=*/true));
  RETURN_IF_ERROR(supervisor_.Start({.name = process, .kind = "verifier", .argv = launch.argv}));
  RETURN_IF_ERROR(AwaitVerifier(process, launch));
  supervisor_.SetAddress(process, launch.address);
  verifier.builtin.clear();
  verifier.command.clear();
  verifier.address = launch.address;
  return absl::OkStatus();
}

absl::Status RunSession::AwaitVerifier(const std::string& process, const VerifierLaunch& launch) {
  const int64_t give_up_ms = clock_.NowMonotonicMs() + ToMs(kVerifierReadyS);
  while (true) {
    Pump();
    if (!failure_.ok()) return failure_;
    if (stop_requested_) return absl::CancelledError("stopped on request");
    if (AddressOf(process) == launch.address) return absl::OkStatus();  // it said so
    absl::Status probed = absl::UnavailableError("it does not say that it listens");
    if (!launch.ours) probed = ProbeVerifier(launch.address, kVerifierProbeS);
    if (probed.ok()) return absl::OkStatus();
    if (!absl::IsUnavailable(probed)) {
      Fail(process, std::string(probed.message()));
      return failure_;
    }
    if (clock_.NowMonotonicMs() > give_up_ms) {
      Fail(process, process + " does not listen on " + launch.address + ": " +
                        std::string(probed.message()));
      return failure_;
    }
  }
}

absl::Status RunSession::StartTrainer() {
  std::vector<std::string> argv = {Binary("trainer"), "run",       "--config", dir_.resolved_path(),
                                   "--run-dir",       dir_.path()};
  std::vector<std::string> again = argv;
  again.push_back("--resume");
  // A trainer that ends by its own decision has said why; only a killed one, or one that has lost
  // its ranks, is worth another try.
  const RestartPolicy policy{.when = RestartPolicy::When::kOnSignal, .max_in_a_row = 3};
  return supervisor_.Start({.name = "trainer",
                            .kind = "trainer",
                            .argv = options_.resume ? again : argv,
                            .restart_argv = again,
                            .restart = policy});
}

absl::Status RunSession::StartGenerators() {
  RETURN_IF_ERROR(AwaitReady("trainer", /*timeout_s=*/0));
  if (trainer_done_ || stop_requested_) return absl::OkStatus();
  // The trainer keeps its address over restarts: the next start reads it from the file.
  const std::string trainer = AddressOf("trainer");
  resolved_.trainer.bind = trainer;
  RETURN_IF_ERROR(dir_.WriteResolved(resolved_));
  for (int i = 0; i < config_.generator.count; ++i) {
    const std::string index = std::to_string(i);
    RETURN_IF_ERROR(supervisor_.Start(
        {.name = "generator-" + index,
         .kind = "generator",
         .argv = {Binary("generator"), "serve", "--config", dir_.resolved_path(), "--run-dir",
                  dir_.path(), "--index", index, "--trainer", trainer}}));
  }
  return absl::OkStatus();
}

// Until `process` listens; `timeout_s` 0 means for as long as it lives.
absl::Status RunSession::AwaitReady(const std::string& process, double timeout_s) {
  const int64_t start = clock_.NowMonotonicMs();
  while (AddressOf(process).empty() && !trainer_done_ && !stop_requested_) {
    Pump();
    if (!failure_.ok()) return failure_;
    if (timeout_s > 0 && clock_.NowMonotonicMs() - start > static_cast<int64_t>(timeout_s * 1000)) {
      Fail(process,
           process + " was not ready after " + std::to_string(static_cast<int>(timeout_s)) + " s");
      return failure_;
    }
  }
  return absl::OkStatus();
}

void RunSession::Pump() {
  for (const SupervisorEvent& event : supervisor_.Poll(kPollMs)) Handle(event);
  ReadSignals();
}

void RunSession::ReadSignals() {
  signalfd_siginfo info;
  while (::read(signal_fd_, &info, sizeof info) == sizeof info) {
    if (stop_requested_) {
      for (const ProcessView& process : supervisor_.processes()) supervisor_.Kill(process.name);
    }
    stop_requested_ = true;
  }
}

void RunSession::Handle(const SupervisorEvent& event) {
  using Kind = SupervisorEvent::Kind;
  switch (event.kind) {
    case Kind::kLine:
      return HandleLine(event);
    case Kind::kListening:
      if (!stopping_) printer_.Note(event.process + " listens on " + AddressOf(event.process));
      break;
    case Kind::kDied:
      if (IsHopeless(event.process)) {
        supervisor_.Stop(event.process, /*grace_s=*/0);
        HandleEnd(event);
        break;
      }
      printer_.Note(event.text + "; starting it again");
      break;
    case Kind::kRestarted:
      last_words_.erase(event.process);
      printer_.Note(event.text);
      break;
    case Kind::kEnded:
    case Kind::kGaveUp:
      HandleEnd(event);
      break;
  }
  PublishEndpoints();
}

// A process that does not fit to the others (version skew) will not fit when it is started again.
bool RunSession::IsHopeless(const std::string& process) const {
  const auto said = last_words_.find(process);
  return said != last_words_.end() && absl::IsFailedPrecondition(said->second);
}

void RunSession::HandleLine(const SupervisorEvent& event) {
  if (!event.json.is_object()) return;
  const std::string kind = event.json.value("event", "");
  if (kind == "failed") {
    last_words_[event.process] =
        absl::Status(CodeNamed(event.json.value("code", "")), event.json.value("message", ""));
    return;
  }
  if (event.process != "trainer") return;
  if (kind == "finished") finished_ = true;
  if (kind == "step") LookAtGenerators();
  printer_.Event(event.json);
}

void RunSession::HandleEnd(const SupervisorEvent& event) {
  if (event.process == "trainer") {
    trainer_done_ = true;
    if (!event.exit || !event.exit->clean()) Fail("trainer", event.text);
    return;
  }
  if (stopping_) return;
  // One generator of several may be lost for good; the run goes on with the others.
  if (event.process.starts_with("generator-") && supervisor_.AnyAlive("generator")) {
    printer_.Note(event.text + "; going on without it");
    return;
  }
  Fail(event.process, event.text);
}

void RunSession::Fail(const std::string& process, const std::string& text) {
  if (!failure_.ok()) return;
  const std::string log = dir_.log_dir() + "/" + process + ".log";
  if (const auto said = last_words_.find(process); said != last_words_.end()) {
    failure_ =
        absl::Status(said->second.code(), process + ": " + std::string(said->second.message()) +
                                              " (" + text + "; " + log + ")");
    return;
  }
  failure_ =
      absl::AbortedError(text + "\n" + supervisor_.LastLines(process, 12) + "  (" + log + ")");
}

void RunSession::StopEverything() {
  stopping_ = true;
  StopKind("trainer", kTrainerGraceS);
  StopKind("generator", kServiceGraceS);
  StopKind("verifier", kServiceGraceS);
  StopKind("redis", kRedisGraceS);
  PublishEndpoints();
}

void RunSession::StopKind(const std::string& kind, double grace_s) {
  for (const ProcessView& process : supervisor_.processes()) {
    if (process.kind == kind) supervisor_.Stop(process.name, grace_s);
  }
  while (supervisor_.AnyAlive(kind)) Pump();  // bounded: Stop ends in SIGKILL
}

void RunSession::PublishEndpoints() {
  const absl::Status written = dir_.WriteEndpoints(config_.run.name, supervisor_.processes());
  // `status` would be behind; that is no reason to end a run.
  if (!written.ok()) LogWarn("endpoints_not_written", {{"error", written}});
}

std::string RunSession::AddressOf(const std::string& process) const {
  for (const ProcessView& view : supervisor_.processes()) {
    if (view.name == process) return view.address;
  }
  return "";
}

std::string RunSession::Binary(const std::string& name) const {
  return options_.binary_dir + "/tramontane-" + name;
}

}  // namespace tramontane
