// Scores a run's stored rollouts again, with any verifier, and says what would have been different.
// Nothing in the run is changed.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "cli/command.h"
#include "common/config.h"
#include "services/verifier/stored_rollouts.h"

namespace tramontane {

struct ReverifyOptions {
  StoredRollouts rollouts;
  std::string stage = {};  // of a chain, one alone; empty: all that stored rollouts
  std::string verifier;  // key of the run's `verifiers`, NAME[@VERSION] of the registry, host:port,
                         // or builtin:NAME
};

// ScoreDifferences::Document(), and "verifier"; of a chain of all its stages, with each one's own
// document under "stages" ({"stage", …}), by the verifiers of its own configuration. NotFound:
// there is no such stage, or no rollouts.
absl::StatusOr<Json> Reverify(const CommandContext& context, const ReverifyOptions& options);

}  // namespace tramontane
