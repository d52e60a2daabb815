// The dispatcher between trainer and generators: Redis 7 functions over streams, with leases and
// fencing tokens (design: docs/architecture.md, "Queue"). Redis is rebuildable; the trainer's
// journal is the truth. One object per thread (it owns one connection).
//
//   groups     trainer → generators   Admit … Claim, Renew, Complete | Release | Fail
//   completed  generators → trainer   TakeCompleted … Retire
//   dead       third failed delivery  ListDead
//
// Keys, all under one hash tag {tramontane:<run_id>}: the streams :eval and :train (evaluation is
// claimed first), :completed, :dead; the hashes :state and :meta; the list :ended.
//
// Every call may be repeated after Unavailable: the outcome is the same as of one call.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

struct UnretiredGroup {
  std::string gid;
  std::string blob;        // of the task, or of the finished group
  bool completed = false;  // blob is the finished group's
};

// kEnded: retired before. kForgotten: Redis lost its data, see Restore().
enum class AdmitResult { kAdmitted, kKnown, kBusy, kEnded, kFenced, kForgotten };

// What a generator holds while it works on a group.
struct Lease {
  std::string gid;
  std::string blob;          // address of the encoded GroupTask
  std::string entry_id;      // stream entry
  int64_t delivery = 0;      // fencing token: number of this delivery
  std::string worker;
};

struct CompletedGroup {
  std::string gid;
  std::string blob;  // address of the encoded Group
  std::string entry_id;
};

struct DeadGroup {
  std::string gid;
  std::string blob;
  std::string reason;
  std::string entry_id;
};

enum class Terminal { kTrained, kEvaluated, kStale, kDropped, kDead };

struct QueueStats {
  int64_t waiting = 0;       // admitted, not claimed
  int64_t leased = 0;
  int64_t completed = 0;     // completed, not retired
  int64_t dead = 0;
  double oldest_waiting_s = 0;
  double oldest_lease_s = 0;
  std::string oldest_lease_worker;
  int64_t redelivered = 0;                 // since the queue was made
  std::map<std::string, int64_t> alarms;   // entry_lost, stray_entry, data_lost: should stay 0
};

class WorkQueue {
 public:
  // Loads the function library (idempotent) and creates streams and groups.
  static absl::StatusOr<std::unique_ptr<WorkQueue>> Connect(const RedisSection& redis,
                                                            const std::string& run_id);
  ~WorkQueue();

  // --- trainer ---
  // Empties the queue (left behind by an earlier run of this name, or at the end of a run); the
  // epoch stays.
  absl::Status Reset();
  // Starts a new epoch, above the current one and `at_least`; writes of lower ones are refused.
  absl::StatusOr<int64_t> Fence(int64_t at_least = 0);
  // After kForgotten: Redis goes on with this epoch, empty; the caller admits again what it misses.
  absl::Status Restore(int64_t epoch);
  // Idempotent by gid. kBusy above `high_water` waiting entries.
  absl::StatusOr<AdmitResult> Admit(const std::string& gid, const std::string& blob, Purpose purpose,
                                    int64_t epoch, int64_t high_water);
  // Completed groups not yet handed to this object, oldest first; a new object starts at the oldest
  // that is not retired. Waits up to `block_ms` for one.
  absl::StatusOr<std::vector<CompletedGroup>> TakeCompleted(int max_groups, int block_ms);
  void RewindCompleted();  // TakeCompleted starts over, as in a new object
  // Out of the queue in whatever state the groups are, and their end state remembered. Call only
  // after the journal is on disk. Aborted: fenced. FailedPrecondition: forgotten.
  absl::Status Retire(const std::vector<std::string>& gids, Terminal terminal, int64_t epoch);
  // Returns expired leases to the queue; at `max_deliveries` failures a group goes to the dead stream.
  absl::StatusOr<int64_t> Reap(double lease_s, int max_deliveries);
  absl::StatusOr<std::vector<DeadGroup>> ListDead(int max_groups);  // oldest first, until retired
  absl::StatusOr<std::vector<UnretiredGroup>> ListUnretired();  // what is not retired, in no order

  // --- generator ---
  // Waits up to `block_ms` for work. A lease lasts `generator.lease_s` from its claim or last renewal.
  absl::StatusOr<std::optional<Lease>> Claim(const std::string& worker, int block_ms);
  absl::Status Renew(const Lease& lease);                              // FailedPrecondition: lost
  absl::Status Complete(const Lease& lease, const std::string& blob);  // FailedPrecondition: lost
  absl::Status Release(const Lease& lease);                            // back, not counted as failure
  absl::Status Fail(const Lease& lease, const std::string& reason, int max_deliveries);

  absl::StatusOr<QueueStats> Stats();

 private:
  struct Impl;
  explicit WorkQueue(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tramontane
