// The shell around every service process: signals, gRPC server with health, reflection and
// Control, /metrics, the "listening" line, drain and exit.
//
//   int main() {
//     ServiceRunner runner(options, metrics);   // before any other thread: it masks signals
//     … build the service (slow: a stop request meanwhile sets runner.stop()) …
//     runner.AddService(&service);
//     if (auto status = runner.Start(); !status.ok()) return runner.Fail(status);
//     runner.WaitForStop();
//     return runner.Shutdown();
//   }
//
// Constructor, AddService, On…, Start, WaitForStop and Shutdown belong to the main thread; the
// others may be called from any thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "services/handshake.h"

namespace tramontane {

// What GetProcessState answers.
struct ProcessStatus {
  std::string phase = "loading";
  std::map<std::string, double> waiting_seconds;  // what for → how long
  int64_t weight_version = 0;
  Json detail = Json::object();
};

struct RunnerOptions {
  std::string process = "";         // "generator-0"
  std::string bind = "";            // host:port; port 0 picks a free one
  std::string advertise_host = "";  // host that peers should dial; empty: the one bound
  std::string metrics_bind = "";    // empty: no /metrics
  std::string ready_file = "";  // the listening line goes here too, atomically; empty: stdout only
  bool exit_with_parent = false;  // drain when the process that started this one dies
  double drain_deadline_s = 20;   // for the drain callback; then calls in flight are cancelled
};

class ServiceRunner {
 public:
  // Masks SIGTERM and SIGINT for this thread and all started after, and watches for them.
  ServiceRunner(RunnerOptions options, MetricsRegistry& metrics);
  ~ServiceRunner();
  ServiceRunner(const ServiceRunner&) = delete;
  ServiceRunner& operator=(const ServiceRunner&) = delete;

  void set_identity(Identity identity);  // before Start
  // Another address that the listening line names; before Start.
  void set_http_address(std::string address);
  // The service outlives the runner's Shutdown(). Before Start.
  void AddService(grpc::Service* service, const std::string& full_name);
  // Called once by Shutdown(), before the server stops; should return within `deadline_s`.
  void OnDrain(std::function<void(double deadline_s)> callback);
  void OnState(std::function<ProcessStatus()> callback);  // any thread; must not block

  // Starts /metrics and the server and prints {"event":"listening",…}. Errors: Unavailable
  // ("… address in use"), InvalidArgument.
  absl::Status Start();
  std::string address() const;          // host:port to dial; after Start
  std::string metrics_address() const;  // empty when switched off

  // Health of the named service ("" = all). True for all after Start.
  void SetServing(const std::string& full_name, bool serving);

  // Becomes true at SIGTERM, SIGINT, Drain, RequestStop or (exit_with_parent) the parent's death.
  const std::atomic<bool>& stop() const;
  // `reason` is logged. A bad status makes Shutdown() return 1.
  void RequestStop(const std::string& reason, const absl::Status& status = absl::OkStatus());
  void WaitForStop();

  // Health off → drain callback → server shutdown. Returns the process's exit code. A process
  // that is not out 10 s after its drain deadline leaves one line and is ended with code 1.
  int Shutdown();
  // For errors before or at Start: one line with the reason in the log, and
  // {"event":"failed","process","code","message"} on standard output; returns 1. Shutdown() ends a
  // bad status the same way.
  int Fail(const absl::Status& status);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
