// One verifier seen from a generator: a bounded number of calls in flight, the others waiting in
// order; retries with backoff; a circuit breaker fed by every outcome. See client.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "services/verifier/circuit_breaker.h"
#include "services/verifier/client.h"
#include "services/verifier/reply_check.h"
#include "tramontane/v1/verifier.grpc.pb.h"

namespace tramontane {

// One thread of its own sends, retries and probes; gRPC's threads bring the answers. They meet
// under one mutex, and user callbacks run outside of it.
class VerifierClient {
 public:
  VerifierClient(std::string name, const VerifierSection& section, const VerifierPoolOptions& options,
                 MetricsRegistry& metrics, const Clock& clock);
  ~VerifierClient();
  VerifierClient(const VerifierClient&) = delete;
  VerifierClient& operator=(const VerifierClient&) = delete;

  void Verify(v1::VerifyRequest request, VerifierPool::Callback callback);
  absl::Status WaitUntilReady(std::chrono::steady_clock::time_point end);
  double exec_timeout_s() const { return section_.request_timeout_s; }
  Json State() const;
  double WaitingSeconds() const;  // since when the service is away; 0 = it is not

 private:
  struct Job {
    v1::VerifyRequest request;
    VerifierPool::Callback callback;
    int32_t attempts = 0;  // that failed with somebody there
    int32_t outages = 0;   // during which the service went away
    int32_t refusals = 0;  // because the service was full
    int64_t due_ms = 0;
  };
  // One attempt under way. Owned by calls_ alone: its context holds on to the channel, and a channel
  // that is let go of last by one of gRPC's own threads makes that thread wait for itself.
  struct Call {
    grpc::ClientContext context;
    v1::VerifyResult result;
    Job job;
    int64_t ticket = 0;
    std::chrono::steady_clock::time_point start;
  };
  // Called with the mutex released.
  struct Answer {
    VerifierPool::Callback callback;
    Verdict verdict;
  };

  void Loop();
  // The next moment at which there is something to do without being woken. Mutex held.
  std::chrono::milliseconds UntilNextEvent() const;
  void TakeDueRetries();                      // mutex held
  bool CanSend() const;                       // mutex held
  void Send(std::unique_lock<std::mutex>& lock);
  void Probe(std::unique_lock<std::mutex>& lock);
  absl::StatusOr<v1::VerifierDescription> AskWhoItIs();
  void Describe(const v1::VerifierDescription& description);  // mutex held
  void NoteDigest(const v1::VerifyResult& result);            // mutex held
  void OnReply(Call* call, const grpc::Status& status);
  std::optional<Answer> Settle(Call& call, const grpc::Status& status);  // mutex held
  // Back into the queue, with one more in `count`; or given up. Mutex held.
  std::optional<Answer> Fail(Job job, const std::string& reason, int32_t Job::*count);
  Answer Conclude(Job& job, Verdict verdict);  // mutex held
  void NoteCircuit(CircuitBreaker::State before);  // mutex held
  Verdict InfraFailure(const std::string& reason) const;

  const std::string name_;
  const VerifierSection section_;
  const Identity identity_;
  MetricsRegistry& metrics_;
  const Clock& clock_;
  Counter retries_, digest_changes_, circuit_opened_;
  Gauge in_flight_gauge_, circuit_open_;
  Histogram round_trip_seconds_;

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Verifier::Stub> stub_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;   // the loop waits here
  std::condition_variable ready_;  // WaitUntilReady and the destructor wait here
  CircuitBreaker circuit_;
  std::deque<Job> pending_;     // may be sent now, in order
  std::vector<Job> backing_off_;  // heap by due_ms
  std::map<const Call*, std::unique_ptr<Call>> calls_;
  int32_t max_in_flight_ = 1;
  std::optional<v1::VerifierDescription> description_;
  absl::Status last_error_ = absl::UnavailableError("not asked yet");
  int64_t away_since_ms_ = 0;  // 0: it is there
  bool stopping_ = false;
  std::thread thread_;  // last: starts when all else stands
};

}  // namespace tramontane
