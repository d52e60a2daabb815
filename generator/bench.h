// `tramontane bench generate`: how fast the engine decodes, and how much of the machine that is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "generator/engine.h"

namespace tramontane {

struct BenchOptions {
  std::vector<int32_t> batches = {1, 16, 64};
  int32_t prompt_tokens = 16, new_tokens = 128;
  int32_t rounds = 3;  // the fastest is reported
  EngineOptions engine;
};

// Sampling at temperature 1, every prompt of its own random tokens →
// {"model", "parameters", "engine", "weights_dtype", "threads", "isa", "prompt_tokens",
//  "new_tokens", "rounds", "memory_gb_per_s", "runs": [{"batch", "tokens_per_second",
//  "step_ms", "ttft_ms", "inter_token_ms": {"p50", "p90", "p99"} (both), "step_bytes",
//  "gb_per_s", "roofline_share", "gflop_per_s", "experts_per_layer"}]}.
// step_bytes: weights, of experts those that the batch goes through (experts_per_layer: how many,
// in the mean of all decode steps; for models with experts alone), and keys and values at half
// length; roofline_share: of the memory bandwidth that as many threads reach when they only read.
// Above 1 where the caches hold the model.
absl::StatusOr<Json> BenchGenerate(const std::string& model_dir, const BenchOptions& options);

}  // namespace tramontane
