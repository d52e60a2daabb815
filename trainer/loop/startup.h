// Opens what a run loop stands on: journal, blobs, the plan of recovery, two queue connections and a
// fencing epoch of its own, in the order in which a failure leaves nothing behind.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "queue/blob_store.h"
#include "queue/work_queue.h"
#include "trainer/ledger/journal.h"
#include "trainer/loop/recovery.h"
#include "trainer/run_loop.h"

namespace tramontane {

struct LoopParts {
  std::unique_ptr<Journal> journal;
  BlobStore blobs;
  RecoveryPlan plan;
  std::unique_ptr<WorkQueue> dispatcher_queue, collector_queue;
  int64_t epoch = 0;  // journalled
};

// Errors as RunLoop::Create.
absl::StatusOr<LoopParts> PrepareLoop(const RunLoop::Options& options);

}  // namespace tramontane
