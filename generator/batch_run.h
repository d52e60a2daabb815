// Runs a list of prompts through an engine of its own and waits for all of them: the tools' way to
// sample.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/engine.h"
#include "text/tokenizer.h"

namespace tramontane {

class LengthPredictor;
class Transformer;

struct LoadedModel {
  std::shared_ptr<Transformer> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  ThinkingProfile thinking;
  std::shared_ptr<const LengthPredictor> length_predictor;  // null: there is none
};
absl::StatusOr<LoadedModel> LoadModel(const std::string& model_dir);

// rollouts[p][i] is sample i of prompt p, drawn with seed sampling.seed + p. The number of cache
// blocks in `options` is an upper bound: no more are made than the prompts can use.
// Errors of a prompt name it; a sample that failed is Internal with the engine's reason.
absl::StatusOr<std::vector<std::vector<Rollout>>> RunBatch(
    const LoadedModel& loaded, const std::vector<std::vector<int32_t>>& prompts,
    const SamplingParams& sampling, int32_t samples_per_prompt, EngineOptions options);

}  // namespace tramontane
