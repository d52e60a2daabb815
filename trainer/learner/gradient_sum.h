// One gradient over many microbatches: workers go through theirs in order, each into a buffer of
// its own, and the buffers are added in worker order. The result depends on the plan alone, not on
// timing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/packing.h"
#include "trainer/learner/worker_pool.h"

namespace tramontane {

// Calls compute(microbatch, views of the worker's buffer, zeroed before the first) for every
// microbatch of the plan; the first error of a worker ends its part and is returned.
absl::Status ComputeGradients(
    WorkerPool& workers, const PackPlan& plan, std::vector<FlatTensor>& gradients,
    const std::function<absl::Status(int32_t microbatch, const std::vector<at::Tensor>& gradient)>&
        compute);

// Calls compute(microbatch) for every microbatch of the plan, without gradients.
absl::Status ForEachMicrobatch(WorkerPool& workers, const PackPlan& plan,
                               const std::function<absl::Status(int32_t microbatch)>& compute);

// Adds all buffers into the first and returns its 2-norm. Throws what tensor code throws.
double ReduceGradients(std::vector<FlatTensor>& gradients);
// Scales to a norm of `most`, if `norm` is above it.
void ClipGradient(FlatTensor& gradient, double norm, double most);

}  // namespace tramontane
