#include "trainer/loop/orphan_sweep.h"

#include <cstdint>
#include <memory>
#include <set>

#include "common/log.h"
#include "common/status.h"
#include "queue/work_queue.h"

namespace tramontane {
namespace {

constexpr double kYoungS = 900;

}  // namespace

absl::Status SweepOrphanedBlobs(const RedisSection& redis, const std::string& run_id,
                                const std::vector<std::string>& needed, const BlobStore& blobs) {
  absl::StatusOr<std::unique_ptr<WorkQueue>> queue = WorkQueue::Connect(redis, run_id);
  RETURN_IF_ERROR(queue.status());
  ASSIGN_OR_RETURN(const std::vector<UnretiredGroup> queued, (*queue)->ListUnretired());
  std::set<std::string> keep(needed.begin(), needed.end());
  for (const UnretiredGroup& group : queued) keep.insert(group.blob);
  ASSIGN_OR_RETURN(const int64_t removed, blobs.Sweep(keep, kYoungS));
  if (removed > 0) LogInfo("orphaned_blobs_removed", {{"blobs", removed}});
  return absl::OkStatus();
}

}  // namespace tramontane
