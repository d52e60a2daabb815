// Asks a verifier service who it is, once. Blocks.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace tramontane {

struct VerifierIdentity {
  std::string name, version, digest;
};

// Unavailable when nobody answers at `address`; FailedPrecondition on version skew.
absl::StatusOr<VerifierIdentity> WhoIsIt(const std::string& address, double timeout_s = 10);

}  // namespace tramontane
