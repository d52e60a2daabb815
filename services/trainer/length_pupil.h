// run.kind length_predictor: a length predictor beside the model that the stage starts from, taught
// by the thoughts of the rows' completions.
#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "services/trainer/pupil.h"
#include "services/trainer/supervised_stage.h"

namespace tramontane {

// From a checkpoint, if there is one. Errors: InvalidArgument, also when no row closes its
// thinking; rows that do not are left out, and the log says how many.
absl::StatusOr<std::unique_ptr<Pupil>> MakeLengthPupil(const SupervisedStage& stage,
                                                       const std::optional<LoadedCheckpoint>& from,
                                                       MetricsRegistry& metrics);

}  // namespace tramontane
