// Chooses how a model is run.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "generator/decoder.h"
#include "generator/engine.h"

namespace tramontane {

class Transformer;

// options.engine as asked; "fused" falls back to "torch", with a line in the log, for models that
// only the latter can run. InvalidArgument for an unknown name.
absl::StatusOr<std::unique_ptr<Decoder>> MakeDecoder(const EngineOptions& options,
                                                     std::shared_ptr<Transformer> model,
                                                     MetricsRegistry& metrics);

}  // namespace tramontane
