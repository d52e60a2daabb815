// Takes groups from the queue, has them sampled and verified, and hands them back.
//
//   claim thread    lease → task blob → engine, ahead of need, until enough samples are under way
//   route thread    each finished sample at once to its verifier
//   finish thread   verdicts complete → group blob → Complete; also Release and Fail
//   renew thread    keeps the leases alive; a lost lease cancels its samples
//
// Every thread has its own queue connection. While Redis is away all of them wait and try again:
// finished groups are kept, nothing is lost. Engine and verifiers are called through hooks, so this
// part links neither torch nor gRPC.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/engine.h"
#include "queue/blob_store.h"
#include "services/verifier/verify_ticket.h"

namespace tramontane {

struct GroupWorkerOptions {
  RedisSection redis;
  std::string run_id;
  std::string worker;  // "generator-0"
  BlobStore blobs;     // of the run; payloads of tasks and finished groups
  double lease_s = 60;
  double rollout_timeout_s = 0;   // of a sample, from when the engine takes it; 0: none
  int32_t claim_groups = 4;       // claimed ahead of need
  int32_t samples_per_group = 8;  // expected; what a task says counts
  int32_t max_running_sequences = 128;
  int32_t max_deliveries = 3;  // failed deliveries before a group is dead
};

// May be called from several threads at once; must not block for long.
struct GroupWorkerHooks {
  // Engine::Submit; where the row's samples take turns with an environment, it begins their
  // episodes, and rollouts may come with a verdict already; where the task has two layers, it has
  // answers corrected (common/layers.h).
  std::function<absl::Status(SampleRequest, const GroupTask&)> submit;
  std::function<void(const std::string&)> cancel;     // Engine::Cancel
  std::function<bool()> ready;                        // healthy, and holding weights
  // Calls back exactly once per sample, from any thread.
  std::function<void(const PromptRow&, const Rollout&, const VerifyTicket&,
                     std::function<void(Verdict)>)>
      verify;
  // Nobody waits for the verdicts of the ticket's `owner` any more.
  std::function<void(const std::string& owner)> cancel_verify;
};

class GroupWorker {
 public:
  // `metrics` and what the hooks use outlive the worker; late callbacks after that are harmless.
  GroupWorker(GroupWorkerOptions options, GroupWorkerHooks hooks, MetricsRegistry& metrics);
  ~GroupWorker();  // Drain(0)

  void Start();
  // Stops claiming, lets running groups finish until the deadline, releases the rest. Once.
  void Drain(double deadline_s);

  // What it waits for: "weights", "groups", "verdicts", "redis". Empty: it is busy. Any thread.
  std::map<std::string, double> WaitingSeconds() const;
  int32_t open_groups() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tramontane
