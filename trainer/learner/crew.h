// Everybody who computes a step: the threads of this process, and those of the other ranks. A plan
// deals microbatches out to all of them by their tokens; each computes its own, and what they found
// is then known to all.
//
// One thread calls it; the same calls on every rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "trainer/learner/packing.h"
#include "trainer/learner/train_rows.h"
#include "trainer/learner/worker_pool.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

// Rank 0's values for everybody, in place; contiguous, of the same shapes on all ranks. Nothing
// without ranks.
absl::Status Spread(RankGroup* ranks, const std::vector<at::Tensor>& tensors);

class Crew {
 public:
  // `ranks` (may be null: this process is alone) outlives it. One ATen thread per worker:
  // parallelism is across microbatches.
  Crew(int threads, RankGroup* ranks);

  int threads() const { return workers_.size(); }
  WorkerPool& workers() { return workers_; }
  RankGroup* ranks() const { return ranks_; }

  // Microbatches of the rows with kept[i], for all workers of all ranks
  // (trainer/learner/packing.h).
  PackPlan Plan(std::span<const TrainRow> rows, const std::vector<uint8_t>& kept,
                int64_t capacity_tokens) const;
  // Those of worker `worker` of this process.
  const std::vector<int32_t>& Mine(const PackPlan& plan, int worker) const;

  // Calls compute(worker, microbatch) for this process's microbatches, each worker's in order. The
  // first error of a worker ends its part; an error on any rank is returned on all.
  absl::Status ForEach(const PackPlan& plan,
                       const std::function<absl::Status(int worker, int32_t microbatch)>& compute);

  // records[m] of microbatch m is right where m was computed; afterwards everywhere.
  template <class T>
  absl::Status Share(const PackPlan& plan, std::vector<T>& records) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return ShareBytes(plan, reinterpret_cast<char*>(records.data()), sizeof(T));
  }
  // Each value is right where it was computed and 0 elsewhere; afterwards right everywhere.
  absl::Status Share(std::vector<double>& values) const;

  // Rank 0 (or a process that is alone): it alone reads and writes files.
  bool leads() const { return ranks_ == nullptr || ranks_->rank() == 0; }
  // Rank 0 does it; all ranks have its status.
  absl::Status Lead(const std::function<absl::Status()>& work) const;

 private:
  absl::Status ShareBytes(const PackPlan& plan, char* records, size_t record_bytes) const;

  RankGroup* const ranks_;
  WorkerPool workers_;
};

}  // namespace tramontane
