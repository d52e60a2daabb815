// One verifier seen from a generator: one VerifyStream with as many requests open as the service
// has capacity for, the others waiting in order; retries with backoff; a circuit breaker fed by
// every outcome. A stream that breaks is opened again and what it carried is asked again. See
// client.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "services/verifier/ask_stream.h"
#include "services/verifier/circuit_breaker.h"
#include "services/verifier/client.h"
#include "services/verifier/dead_letters.h"
#include "services/verifier/reply_check.h"
#include "services/verifier/verify_job.h"

namespace tramontane {

// One thread of its own connects, probes and minds the clock; gRPC's threads bring the answers and
// send what has become possible by them. All meet under one mutex; user callbacks run outside of
// it.
class VerifierClient {
 public:
  VerifierClient(std::string name, const VerifierSection& section,
                 const VerifierPoolOptions& options, MetricsRegistry& metrics, const Clock& clock);
  ~VerifierClient();
  VerifierClient(const VerifierClient&) = delete;
  VerifierClient& operator=(const VerifierClient&) = delete;

  void Verify(const PromptRow& row, const Rollout& rollout, const VerifyTicket& ticket,
              VerifierPool::Callback callback);
  void Cancel(const std::string& owner);
  absl::Status WaitUntilReady(std::chrono::steady_clock::time_point end);
  Json State() const;
  size_t waiting() const;
  double WaitingSeconds() const;  // since when the service is away; 0 = it is not

 private:
  using Steady = std::chrono::steady_clock::time_point;
  struct OpenRequest {
    VerifyJob job;
    int64_t ticket = 0;  // of the circuit breaker
    Steady start, give_up;
  };
  // By request id. The same question may be open twice; the service answers each.
  using OpenRequests = std::multimap<std::string, OpenRequest>;
  // Called with the mutex released.
  struct Answer {
    VerifierPool::Callback callback;
    Verdict verdict;
  };
  using Answers = std::vector<Answer>;

  void Loop();
  void Probe(std::unique_lock<std::mutex>& lock);
  absl::StatusOr<v1::VerifierDescription> AskWhoItIs();
  static void Deliver(Answers answers);

  // The mutex is held in all that follow; what is to be told afterwards is added to `answers`.
  void OnTick(Answers& answers);  // the clock: due retries, requests without an answer
  std::chrono::milliseconds UntilNextEvent() const;
  void OpenStream();
  bool CanSend() const;
  void SendReady(Answers& answers);
  void SendOne(VerifyJob job);
  std::optional<VerifyJob> NextJob(Answers& answers);
  void OnResult(const v1::VerifyResult& result, Answers& answers);
  void Settle(OpenRequest open, const v1::VerifyResult& result, Answers& answers);
  void ApplyTimeoutReward(std::vector<Verdict>& verdicts) const;
  void OnStreamEnd(Answers& answers);
  void Fail(VerifyJob job, Failure failure, const std::string& reason, Answers& answers);
  void Conclude(VerifyJob& job, const std::vector<Verdict>& verdicts, Answers& answers);
  void ConcludeAll(std::vector<VerifyJob> jobs, const std::string& reason, Answers& answers);
  // verifier_identity.cc: who the service is, and whether it may be asked.
  void Describe(const v1::VerifierDescription& description);
  absl::Status CheckPin(const std::string& version, const std::string& digest) const;
  void NoteDigest(const v1::VerifyResult& result);
  void NoteCircuit(CircuitBreaker::State before);

  const std::string name_;
  const VerifierSection section_;
  const Identity identity_;
  MetricsRegistry& metrics_;
  const Clock& clock_;
  Counter retries_, digest_changes_, circuit_opened_, stray_replies_;
  Gauge in_flight_gauge_, circuit_open_;
  Histogram round_trip_seconds_;

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Verifier::Stub> stub_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;   // the loop waits here
  std::condition_variable ready_;  // WaitUntilReady and the destructor wait here
  CircuitBreaker circuit_;
  JobQueue queue_;
  GroupGatherer gatherer_;
  DeadLetters dead_letters_;
  OpenRequests open_;
  std::unique_ptr<AskStream> stream_;       // destroyed by the loop alone
  std::optional<grpc::Status> stream_end_;  // it has ended and is to be settled
  bool garbled_ = false;                    // we end it because of what came
  size_t most_open_ = 1;
  std::optional<v1::VerifierDescription> description_;
  absl::Status last_error_ = absl::UnavailableError("not asked yet");
  int64_t away_since_ms_ = 0;  // 0: it is there
  bool stopping_ = false;
  std::thread thread_;  // last: starts when all else stands
};

}  // namespace tramontane
