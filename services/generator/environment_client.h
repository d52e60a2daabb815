// The environment of a run as a generator sees it: asked over gRPC, waited for while it is away.
//
// A call that finds nobody is repeated until somebody is there or the client ends; one that fails
// otherwise up to `max_attempts` times. Both are safe, since every call of the contract is
// idempotent.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "services/generator/episodes.h"
#include "services/handshake.h"
#include "tramontane/v1/environment.grpc.pb.h"

namespace tramontane {

class EnvironmentClient {
 public:
  // The entry `name` of `verifiers`: its address, timeouts and pins. Connects in the background.
  // `metrics` outlives the client.
  EnvironmentClient(std::string name, const VerifierSection& section, Identity identity,
                    MetricsRegistry& metrics);
  // Ends every call with Cancelled, and returns once all callbacks have.
  ~EnvironmentClient();

  EnvironmentHooks Hooks();  // this outlives them

  // Until it has said who it is. FailedPrecondition when it is another than the pinned one, or
  // speaks another protocol; Unavailable when it has not answered.
  absl::Status WaitUntilReady(double timeout_s);
  double AwaySeconds() const;  // since when nobody answers; 0: somebody does

 private:
  using Steady = std::chrono::steady_clock::time_point;
  // One attempt: starts the call and reports its status.
  using Attempt = std::function<void(grpc::ClientContext*, std::function<void(grpc::Status)>)>;
  struct Call;

  void Start(const std::shared_ptr<Call>& call);
  void OnStatus(const std::shared_ptr<Call>& call, const grpc::Status& status);
  void Tell(const std::shared_ptr<Call>& call, const absl::Status& status);
  void Later(const std::shared_ptr<Call>& call, double seconds);
  void RetryLoop();
  void Ask(const std::string& what, Attempt attempt, std::function<void(absl::Status)> done);
  void Describe();
  absl::Status CheckDescription(const v1::EnvironmentDescription& description) const;

  const std::string name_in_run_;
  const VerifierSection section_;
  const Identity identity_;
  std::map<std::string, Histogram> seconds_;  // by call
  Counter retries_, failures_;
  const std::unique_ptr<v1::Environment::Stub> stub_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  std::multimap<Steady, std::shared_ptr<Call>> retries_due_;
  std::map<Call*, std::shared_ptr<Call>> open_;  // waiting for an answer or for a retry
  std::optional<EnvironmentName> name_;
  absl::Status described_ = absl::UnavailableError("the environment has not answered yet");
  std::optional<Steady> away_since_;
  bool stopping_ = false;
  std::thread retry_thread_;  // last
};

}  // namespace tramontane
