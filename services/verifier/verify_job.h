// One question to a verifier on its way to an answer, and the queues it waits in. Plain objects for
// one thread; time is passed in.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "services/verifier/client.h"
#include "tramontane/v1/verifier.pb.h"

namespace tramontane {

// Whose fault an attempt was that brought no verdict.
enum class Failure {
  kAttempt,     // somebody was there and got it wrong, or ended a stream that carried nothing else
  kOutage,      // nobody was there, or went away in good order
  kBreak,       // the stream was ended with an error, and carried others too
  kCrash,       // the service died, and was working on others too
  kCrashAlone,  // the same, and it was working on nothing else
  kRefusal,     // the service was full
};

struct VerifyJob {
  v1::VerifyRequest request;
  std::vector<VerifierPool::Callback> callbacks;  // one; for a group request one a sample, in order
  std::string owner;                              // VerifyTicket::owner
  int32_t samples = 1;                            // in the group it belongs to
  int32_t sample_index = 0;
  int32_t attempts = 0, outages = 0, refusals = 0;
  int32_t breaks = 0, crashes = 0;  // of stream and service, with this one in flight
  // A stream that carried it and others was ended with an error, or the service died twice with it:
  // asked alone from now on, so that the one at fault is found and the others are not given up with
  // it.
  bool suspect = false;
  int64_t due_ms = 0;

  int32_t tries() const { return attempts + outages + refusals + breaks + crashes; }
};

// Jobs that are not under way: in order, or held back after a failure.
class JobQueue {
 public:
  explicit JobQueue(int32_t max_attempts) : max_attempts_(max_attempts) {}

  void Push(VerifyJob job) { ready_.push_back(std::move(job)); }
  // Counts the failure. Keeps the job for another try; or gives it back when its tries are used up.
  std::optional<VerifyJob> Failed(VerifyJob job, Failure failure, int64_t now_ms);

  void TakeDue(int64_t now_ms);  // held back long enough: to the front, oldest work first
  bool ready() const { return !ready_.empty(); }
  const VerifyJob& front() const { return ready_.front(); }
  VerifyJob Pop();
  std::vector<VerifyJob> RemoveOwner(const std::string& owner);
  std::vector<VerifyJob> RemoveAll();

  size_t size() const { return ready_.size() + held_.size(); }
  std::optional<int64_t> next_due_ms() const;

 private:
  const int32_t max_attempts_;
  std::deque<VerifyJob> ready_;
  std::vector<VerifyJob> held_;  // heap by due_ms
};

// Collects the samples of groups for verifiers that judge whole groups.
class GroupGatherer {
 public:
  // The group's request once all its samples are here.
  std::optional<VerifyJob> Add(VerifyJob sample);
  std::vector<VerifyJob> RemoveOwner(const std::string& owner);
  std::vector<VerifyJob> RemoveAll();
  size_t size() const { return groups_.size(); }

 private:
  std::map<std::string, std::map<int32_t, VerifyJob>> groups_;  // by owner, by sample
};

}  // namespace tramontane
