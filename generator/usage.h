// What a response's tokens were spent on. Torch-free.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "common/rollout.h"
#include "generator/core/think_control.h"
#include "text/tokenizer.h"

namespace tramontane {

// `plan` says which tags to look for and whether prompt or prefill left the thinking open. An
// unclosed tag reaches to the end. `rollout.text` must be filled in.
TokenUsage CountUsage(const ThinkingPlan& plan, const Rollout& rollout, bool ended_by_token,
                      const std::shared_ptr<const Tokenizer>& tokenizer);

}  // namespace tramontane
