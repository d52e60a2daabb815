// Which protection is enough. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

// Tier, layers and what is missing, from the bits of JailLayer. `why_no_namespaces`: what the
// kernel said, if it was asked. FailedPrecondition (tier C, which runs nothing) names what is
// missing: no_new_privs, seccomp or rlimits; a file system of its own by mount namespace or
// Landlock; or what `sandbox.required_tier` and `sandbox.required_layers` demand.
absl::StatusOr<SandboxDescription> DescribeLayers(uint32_t layers, int landlock_abi,
                                                  const std::string& why_no_namespaces,
                                                  const SandboxSection& section);

// What programs may ask for: sandbox.max_….
RunLimits MostLimits(const SandboxSection& section);

// Whether a jail that was started later is as tight as the first, which was described.
// FailedPrecondition names what it lacks.
absl::Status CheckAsTight(uint32_t first, uint32_t later);

}  // namespace tramontane
