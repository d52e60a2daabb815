// `tramontane generate` and `tramontane eval` as functions (docs/cli).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/engine.h"
#include "generator/search_tool.h"

namespace tramontane {

// {"prompts": [text or [ids], …], "max_new_tokens", "temperature", …, "n", "thinking": {…}} →
// {"rollouts": […]}. Text prompts get the tokenizer's special tokens. Unknown keys are errors.
// Prompt p draws with seed + p. With "search": {…} each prompt has one rollout, the one found, and
// in it "search" says among what (generator/search_tool.h).
absl::StatusOr<Json> GenerateTool(const std::string& model_dir, const Json& in,
                                  const EngineOptions& options, const SearchHooks& hooks);

// A verdict for a row's completion. Thread-safe: searches ask for several at once.
using GradeFunction = std::function<absl::StatusOr<Verdict>(const PromptRow&, const Rollout&)>;

// Samples every row `samples_per_prompt` times and grades what comes out →
// {"prompts", "samples", "accuracy", "mean_reward", "mean_tokens", "truncated", "failures",
//  "generate_seconds", "tokens_per_second", "pass_at": {k: …}, "majority_at": {k: …}, "search",
//  "kinds": {kind: {"samples", "accuracy", "mean_reward"}}}.
// A row's kind is the string in params["kind"], or else its verifier. Verdicts without a score
// (timeouts, infrastructure failures) are counted in "failures" and left out of the means, which
// are null when nothing is left. pass_at and majority_at are means over the prompts whose samples
// all have a score, for each k = 1, 2, 4, … up to `samples_per_prompt`.
// With `search` (not null) every row has one completion, the one found by the row's own grader, or
// by another scorer that it names.
absl::StatusOr<Json> EvalTool(const std::string& model_dir, const std::vector<PromptRow>& rows,
                              const SamplingParams& sampling, int32_t samples_per_prompt,
                              const Json& search, const EngineOptions& options,
                              const GradeFunction& grade, const SearchHooks& hooks);

}  // namespace tramontane
