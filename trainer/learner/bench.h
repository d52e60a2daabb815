// `tramontane bench train`: how fast the learner steps, where a step's time goes, and how much of
// the machine that is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

struct TrainBenchOptions {
  int32_t groups = 32, samples = 8;  // of one step
  int32_t prompt_tokens = 8, response_tokens = 40;
  // Of responses. equal: all of response_tokens; ragged: as reasoning models answer, log-normal
  // (median 0.4 response_tokens, σ 0.7) up to response_tokens, the same in every run.
  std::string lengths = "equal";
  int32_t steps = 8;  // measured, after one that is not
  int32_t threads = 1, microbatch_tokens = 2048;
  int32_t ranks = 1, zero = 0;  // trainer.ranks, trainer.zero
  bool share_prompts = true;    // trainer.share_prompts
  bool activation_checkpointing = false;
  std::string dtype = "float32";
  int32_t lora_rank = 0;
  std::string algorithm;  // the `algorithm` block as JSON; empty: the defaults
};

// Steps on random tokens of the model's vocabulary, rewards that differ within each group →
// {"model", "parameters", "threads", "ranks", "zero",
//  "activation_checkpointing", "share_prompts", "dtype", "lora_rank", "microbatch_tokens",
//  "groups", "samples", "prompt_tokens", "response_tokens", "lengths", "response_lengths", "steps",
//  "step_seconds": {"best", "median"}, "cpu_seconds_per_step", "input_tokens", "packed_tokens",
//  "tokens_per_second", "packed_tokens_per_second", "response_tokens_per_second", "phase_seconds",
//  "phase_share",
//  "snapshot_seconds", "weight_mib", "peak_memory_mib", "gflop_per_step", "gflop_per_s",
//  "peak_gflop_per_s", "model_flop_share", "moment_mib", "gradient_mib", "rank_seconds",
//  "rank_mib"} (the last two with ranks).
// Rates and shares are of the median step. Tokens (input_tokens of a step) are those of the
// sequences, prompts included; packed ones are what was computed of them, shared prompts once.
// response_lengths has one number for each sample, group after group. A step's operations are as
// trainer/learner/model_flop.h counts them, their share of what as many threads reach when they
// only multiply float32 matrices of 1024 × 1024. Memory is the process's largest, of all it did,
// without that of other ranks.
absl::StatusOr<Json> BenchTrain(const std::string& model_dir, const TrainBenchOptions& options);

}  // namespace tramontane
