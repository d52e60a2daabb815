// Protobuf ↔ the sandbox's records.
#pragma once

#include "tramontane/v1/sandbox.pb.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

v1::SandboxDescription ToProto(const SandboxDescription& description);
SandboxDescription FromProto(const v1::SandboxDescription& description);
v1::ProgramLimits ToProto(const RunLimits& limits);
RunLimits FromProto(const v1::ProgramLimits& limits);
v1::RunProgramResult ToProto(ProgramRun run);
// Unavailable when the service says something that cannot be.
absl::StatusOr<ProgramRun> FromProto(v1::RunProgramResult result);

}  // namespace tramontane
