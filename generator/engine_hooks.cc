#include "generator/engine_hooks.h"

namespace tramontane {

absl::Status WhyLost(const EngineHooks& engine, FinishReason reason) {
  if (reason == FinishReason::kTimeout)
    return absl::DeadlineExceededError("the request did not finish in the time it had");
  const EngineStats stats = engine.stats();
  if (!stats.healthy) return absl::UnavailableError(stats.unhealthy_reason);
  if (reason == FinishReason::kAborted)
    return absl::UnavailableError("the sample was aborted; try again");
  return absl::InternalError(
      "the sample could not be finished: nothing that the model can say goes on with what was "
      "asked "
      "for");
}

}  // namespace tramontane
