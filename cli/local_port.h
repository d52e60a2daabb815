// Loopback ports, for services that are told where to listen.
#pragma once

#include "absl/status/statusor.h"

namespace tramontane {

absl::StatusOr<int> FreePort();  // free now

}  // namespace tramontane
