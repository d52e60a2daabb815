// AdamW's state as files of a checkpoint: optimiser.json (update count, dtype, names and shapes in
// order) and the two flat moments as raw little-endian arrays. The files say nothing of the number
// of ranks that made them.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tramontane {

using NamedParameters = std::vector<std::pair<std::string, at::Tensor>>;

std::vector<at::Tensor> TensorsOf(const NamedParameters& parameters);

struct OptimiserState {
  at::Tensor first, second;  // moments, [elements], in the parameters' order
  int64_t updates = 0;
};

absl::Status SaveOptimiserState(const std::string& dir, const NamedParameters& parameters,
                                const OptimiserState& state);

// InvalidArgument: made for other parameters (the first difference is named) or another dtype.
// DataLoss: truncated.
absl::StatusOr<OptimiserState> LoadOptimiserState(const std::string& dir,
                                                  const NamedParameters& parameters);

}  // namespace tramontane
