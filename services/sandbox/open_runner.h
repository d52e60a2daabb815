// The runner that a configuration asks for.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

// `sandbox.address`: a service, asked who it is and held to required_tier and required_layers; else
// jails of this process. Sets tramontane_sandbox_info. Errors: FailedPrecondition (too little
// protection, version skew), Unavailable (no service), NotFound (no interpreter or compiler).
absl::StatusOr<std::shared_ptr<ProgramRunner>> OpenRunner(const SandboxSection& section,
                                                          MetricsRegistry& metrics);

// Tier, layers and all for status pages.
Json ToJson(const SandboxDescription& description);

}  // namespace tramontane
