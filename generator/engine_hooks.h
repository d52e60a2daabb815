// An engine as others reach it: through functions, so that what uses one needs no torch and tests
// can script it. Any thread.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "generator/engine.h"

namespace tramontane {

struct EngineHooks {
  std::function<absl::Status(SampleRequest)> submit;
  std::function<void(const std::string& id)> cancel;
  std::function<EngineStats()> stats;
};

EngineHooks HooksOf(Engine& engine);  // which outlives them

// Why a sample ended that nobody cancelled, for a `reason` that is no end of a response. Trying
// again helps where the engine will be well again, not where this very sample cannot go on.
absl::Status WhyLost(const EngineHooks& engine, FinishReason reason);

}  // namespace tramontane
