// The configuration that a generator serves by: its run's, or without one the defaults and what the
// command line says.
#pragma once

#include "absl/status/statusor.h"
#include "common/config.h"
#include "services/generator/serve.h"

namespace tramontane {

// InvalidArgument names the option that is wrong, missing, or at odds with another. Without a run
// the sections `model` and `data` mean nothing, and `verifiers` holds those of the command line.
absl::StatusOr<RunConfig> ServeConfig(const ServeOptions& options);

}  // namespace tramontane
