// `tramontane grade` (docs/cli.md): many completions or bare answers judged in one call.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "verifier/grader.h"

namespace tramontane {

// {"items": [{"prompt", "completion" or "answer" or "group", "gold", "params", "deadline_s",
// "completion_tokens", "finish_reason"}]} → {"verdicts": [{"status", "score" or null, "correct",
// "components", "extracted", "feedback", "exec_seconds"}]}. A completion goes through format gate
// and reward; a bare answer scores 1 or 0. A group is a list of {"completion", "completion_tokens",
// "finish_reason"}, and its verdict {"group": [verdicts]}. An item whose grading took longer than
// its deadline_s is a timeout without score. Errors name the item and its field.
absl::StatusOr<Json> GradeTool(const std::string& name, const Json& in,
                               const RewardSection& reward = {},
                               const GraderTools& tools = {});

}  // namespace tramontane
