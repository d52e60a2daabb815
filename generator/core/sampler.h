// Draws one token from a row of logits, with its log-probability. Torch-free, float32.
//
// The distribution: logits / temperature, then the most likely tokens kept by top_k, then by top_p
// (of what top_k left), then by min_p (relative to the most likely), renormalised. Equal logits
// rank by token id. Temperature 0 takes the most likely token; its log-probability is that of
// temperature 1. The result is a pure function of (logits, parameters, draw).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/rollout.h"

namespace tramontane {

struct TokenLogprob {
  int32_t token = -1;
  float logprob = 0;
};

struct SampledToken {
  int32_t token = -1;
  float logprob = 0;
  bool finite = false;  // false: the row held a NaN or an infinity, and token means nothing
  std::vector<TokenLogprob> alternatives = {};  // left to the caller: what else could be drawn
};

// Ranges of temperature, top_p, top_k, min_p and max_new_tokens. InvalidArgument names the field.
absl::Status CheckSampling(const SamplingParams& sampling);

// Holds scratch memory only. One thread.
class Sampler {
 public:
  // `uniform` in [0, 1); not used at temperature 0.
  SampledToken Sample(std::span<const float> logits_V, const SamplingParams& sampling,
                      double uniform);

  // The ids that truncation keeps, most likely first. Sample() draws from these alone.
  std::vector<int32_t> KeptTokens(std::span<const float> logits_V, const SamplingParams& sampling);

  // The model's own log-probability of a token: at temperature 1, nothing cut off. Finite row.
  float Logprob(std::span<const float> logits_V, int32_t token);

  // The `count` most likely of them, fewer where fewer are kept, with log-probabilities of the
  // distribution that Sample() draws from. The row is finite.
  std::vector<TokenLogprob> Likeliest(std::span<const float> logits_V,
                                      const SamplingParams& sampling, int32_t count);

 private:
  SampledToken SampleAll(std::span<const float> logits_V, float scale, float top, double uniform);
  SampledToken SampleTruncated(std::span<const float> logits_V, const SamplingParams& sampling,
                               float scale, float top, double uniform);
  // Fills ranked_ with the kept tokens, and weights_ with their unnormalised probabilities.
  void Truncate(std::span<const float> logits_V, const SamplingParams& sampling, float scale,
                float top);
  // Makes ranked_[0, count) the most likely tokens in order, with weights_ beside.
  void RankAtLeast(std::span<const float> logits_V, size_t count, float scale, float top);

  std::vector<float> weights_;
  std::vector<double> block_sums_;
  std::vector<int32_t> ranked_;
};

}  // namespace tramontane
