#include "cli/run_session.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

#include "cli/local_port.h"
#include "cli/redis_child.h"
#include "cli/registry.h"
#include "cli/status.h"
#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr int kPollMs = 200;
constexpr double kRedisReadyS = 20, kVerifierReadyS = 120;
// The trainer writes a checkpoint before it leaves; the others hold nothing that is not elsewhere.
constexpr double kTrainerGraceS = 130, kServiceGraceS = 35, kRedisGraceS = 10;

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

std::string ReplaceAll(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
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
  if (stop_requested_ && failure_.ok()) printer_.Note("stopping: the trainer writes a checkpoint first");
  if (finished_) AskGenerators();
  StopEverything();
  if (!failure_.ok()) return failure_;
  return stop_requested_ && !finished_ ? absl::CancelledError("stopped on request") : absl::OkStatus();
}

// How busy they were is known to them alone, and only while they live.
void RunSession::AskGenerators() {
  const auto status = QueryStatus(dir_.path(), /*timeout_s=*/1);
  if (!status.ok()) return;
  for (const Json& process : (*status)["processes"]) {
    if (!process.contains("busy_seconds")) continue;
    generator_busy_seconds_ = generator_busy_seconds_.value_or(0) + process["busy_seconds"].get<double>();
  }
}

absl::Status RunSession::StartAll() {
  RETURN_IF_ERROR(dir_.WriteConfig(config_));
  if (options_.sft_only) {
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
  ASSIGN_OR_RETURN(const int port, FreePort());
  const std::string address = "127.0.0.1:" + std::to_string(port);
  std::vector<std::string> argv = {Binary("verifier"), "serve", "--config", dir_.config_path(),
                                   "--name", name, "--bind", address};
  const bool own_command = !verifier.command.empty();
  if (own_command) {
    argv = verifier.command;
    for (std::string& arg : argv) arg = ReplaceAll(arg, "{port}", std::to_string(port));
  }
  RETURN_IF_ERROR(supervisor_.Start({.name = process, .kind = "verifier", .argv = argv}));
  const int64_t give_up_ms = clock_.NowMonotonicMs() + static_cast<int64_t>(kVerifierReadyS * 1000);
  while (!Connects(port)) {
    Pump();
    if (!failure_.ok()) return failure_;
    if (stop_requested_) return absl::CancelledError("stopped on request");
    if (clock_.NowMonotonicMs() > give_up_ms) {
      Fail(process, process + " does not listen on " + address);
      return failure_;
    }
  }
  verifier.builtin.clear();
  verifier.command.clear();
  verifier.address = address;
  return absl::OkStatus();
}

absl::Status RunSession::StartTrainer() {
  std::vector<std::string> argv = {Binary("trainer"), options_.sft_only ? "sft" : "run",
                                   "--config", dir_.resolved_path(),
                                   "--run-dir", dir_.path()};
  std::vector<std::string> again = argv;
  again.push_back("--resume");
  // A trainer that ends by its own decision has said why; only a killed one is worth another try.
  const RestartPolicy policy{.when = RestartPolicy::When::kOnSignal, .max_in_a_row = 3};
  return supervisor_.Start({.name = "trainer", .kind = "trainer",
                            .argv = options_.resume ? again : argv, .restart_argv = again,
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
        {.name = "generator-" + index, .kind = "generator",
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
      Fail(process, process + " was not ready after " + std::to_string(static_cast<int>(timeout_s)) + " s");
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
    case Kind::kLine: return HandleLine(event);
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
    case Kind::kGaveUp: HandleEnd(event); break;
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
    last_words_[event.process] = absl::Status(CodeNamed(event.json.value("code", "")),
                                              event.json.value("message", ""));
    return;
  }
  if (event.process != "trainer") return;
  if (kind == "finished") finished_ = true;
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
    failure_ = absl::Status(said->second.code(), process + ": " + std::string(said->second.message()) +
                                                     " (" + text + "; " + log + ")");
    return;
  }
  failure_ = absl::AbortedError(text + "\n" + supervisor_.LastLines(process, 12) + "  (" + log +
                                ")");
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
