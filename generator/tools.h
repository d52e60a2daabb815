// `tramontane generate` and `tramontane eval` as functions (docs/cli).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/engine.h"

namespace tramontane {

// {"prompts": [text or [ids], …], "max_new_tokens", "temperature", …, "n", "thinking": null} →
// {"rollouts": […]}. Text prompts get the tokenizer's special tokens. Unknown keys are errors;
// Unimplemented for thinking control. Prompt p draws with seed + p.
absl::StatusOr<Json> GenerateTool(const std::string& model_dir, const Json& in,
                                  const EngineOptions& options);

// A verdict for a row's completion. Called from one thread, after all sampling.
using GradeFunction = std::function<absl::StatusOr<Verdict>(const PromptRow&, const Rollout&)>;

// Samples every row `samples_per_prompt` times and grades what comes out →
// {"prompts", "samples", "accuracy", "mean_reward", "mean_tokens", "truncated", "failures",
//  "generate_seconds", "tokens_per_second",
//  "kinds": {kind: {"samples", "accuracy", "mean_reward"}}}.
// A row's kind is the string in params["kind"], or else its verifier. Verdicts without a score
// (timeouts, infrastructure failures) are counted in "failures" and left out of the means, which
// are null when nothing is left.
absl::StatusOr<Json> EvalTool(const std::string& model_dir, const std::vector<PromptRow>& rows,
                              const SamplingParams& sampling, int32_t samples_per_prompt,
                              const EngineOptions& options, const GradeFunction& grade);

}  // namespace tramontane
