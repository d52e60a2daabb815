// How a verifier that is a process of this machine is started, and when it is ready: what a run and
// a command that needs one for itself have in common. Stateless.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

struct VerifierLaunch {
  std::vector<std::string> argv;
  std::string address;  // host:port where it will listen: a port that was free just now
  bool ours = false;    // the built-in grader's program, which says when it listens
};

// For a section with `builtin` or `command` ({port} is filled in). `config_path` tells a built-in
// grader its reward table and may be empty; `metrics`: it serves /metrics as that file says.
absl::StatusOr<VerifierLaunch> PlanVerifier(const std::string& name, const VerifierSection& section,
                                            const std::string& binary_dir,
                                            const std::string& config_path, bool metrics);

// Does this line of a verifier's standard output say that it listens at `address`?
bool SaysItListens(const std::string& line, const std::string& address);

// Is a verifier at `address`? Unavailable while nobody or somebody else is, for the port was free
// for all when it was chosen; FailedPrecondition on version skew. Blocks for `timeout_s` at most.
absl::Status ProbeVerifier(const std::string& address, double timeout_s);

}  // namespace tramontane
