// Scores a run's stored rollouts again, with any verifier, and says what would have been different.
// Nothing in the run is changed.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "cli/command.h"
#include "common/config.h"

namespace tramontane {

struct ReverifyOptions {
  std::string run_dir;
  std::string verifier;   // key of the run's `verifiers`, NAME[@VERSION] of the registry, host:port,
                          // or builtin:NAME
  std::string only;       // rollouts judged by this one; empty: all
  std::string kind = "train";  // or eval
  int64_t limit = 0;      // samples; 0: all
};

// {"samples", "scored_by_both", "same", "differing", "unscored", "without_params", "mean_old",
//  "mean_new", "correct": {"both", "neither", "only_old", "only_new"}, "largest": […], "verifier",
//  "version", "digest"}; the same as of `tramontane-verifier replay`.
absl::StatusOr<Json> Reverify(const CommandContext& context, const ReverifyOptions& options);

std::string RenderReverify(const Json& report);

}  // namespace tramontane
