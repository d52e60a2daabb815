// AdamW's state as files of a checkpoint: optimiser.json (update count, dtype, names and shapes in
// order) and the two flat moments as raw little-endian arrays.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "trainer/learner/adamw.h"

namespace tramontane {

using NamedParameters = std::vector<std::pair<std::string, at::Tensor>>;

absl::Status SaveOptimiserState(const std::string& dir, const NamedParameters& parameters, const AdamW& optimiser);

// InvalidArgument: made for other parameters (the first difference is named). DataLoss: truncated.
absl::Status LoadOptimiserState(const std::string& dir, const NamedParameters& parameters, AdamW& optimiser);

}  // namespace tramontane
