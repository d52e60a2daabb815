// The groups a generator works on: which samples and verdicts are still missing. Bookkeeping only;
// the threads around it are in group_worker.h. All members may be called from any thread.
//
//   leased ── every sample finished ── every verdict in ──▶ done
//      └── lost, released or failed: closed; whatever still arrives for it is ignored
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/rollout.h"
#include "queue/work_queue.h"

namespace tramontane {

// Constant after Open(), but for the counts, the rollouts and `closed`, which LiveGroups guards.
struct LiveGroup {
  Lease lease;
  GroupTask task;
  std::string request_id;  // unique over deliveries, so that a redelivered group never collides
  int32_t unsampled = 0;
  int32_t unverified = 0;
  std::vector<Rollout> rollouts;     // by sample index
  std::vector<uint8_t> came_judged;  // by sample index: its verdict is no verifier's
  int32_t rescored = 0;  // times that all verdicts were asked for again
  bool closed = false;
};
using LiveGroupPtr = std::shared_ptr<LiveGroup>;

class LiveGroups {
 public:
  LiveGroupPtr Open(Lease lease, GroupTask task);

  // Keeps a sample. False when the group is closed.
  bool SampleDone(const LiveGroupPtr& group, Rollout rollout);
  enum class Verdicts {
    kMissing,   // or the group is closed
    kComplete,  // this was the last one
    kMixed,     // it was, and two versions of a verifier have judged: all must be asked for again,
                // as one group's rewards are compared with each other
  };
  Verdicts VerdictDone(const LiveGroupPtr& group, int32_t sample_index, Verdict verdict);
  // Copy of a kept sample, for the verifier.
  Rollout Sample(const LiveGroupPtr& group, int32_t sample_index) const;
  // Whether the sample brought its verdict with it (an environment's): no verifier is asked then.
  bool CameJudged(const LiveGroupPtr& group, int32_t sample_index) const;
  // The finished record. Call once, after VerdictDone said kComplete.
  Group Take(const LiveGroupPtr& group, const std::string& generator_id);

  // Nothing more is expected of it. False when it was closed before.
  bool Close(const LiveGroupPtr& group);
  std::vector<LiveGroupPtr> OpenGroups() const;

  int32_t unsampled() const;  // samples the engine still owes
  int32_t open_groups() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, LiveGroupPtr> open_;  // by request id; guarded by mutex_
  int32_t unsampled_ = 0;                     // guarded by mutex_
};

}  // namespace tramontane
