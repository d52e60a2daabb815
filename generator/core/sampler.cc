#include "generator/core/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "generator/core/row_math.h"

namespace tramontane {
namespace {

constexpr size_t kFirstRanked = 64;  // tokens sorted at first when only top_p or min_p is set

absl::Status Invalid(const std::string& field, const std::string& must, double value) {
  return absl::InvalidArgumentError(field + " must be " + must + ", got " + std::to_string(value));
}

bool Truncates(const SamplingParams& sampling) {
  return sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0;
}

// Of temperatures so low that their inverse is no number, the greatest: the most likely tokens
// share all of the weight.
float ScaleOf(double temperature) {
  return static_cast<float>(std::min(1.0 / temperature, double{std::numeric_limits<float>::max()}));
}

// First index whose running sum exceeds `target`; the last one with weight when rounding leaves
// the target just above the sum.
size_t Invert(std::span<const float> weights, double target) {
  double sum = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    last = i;
    sum += weights[i];
    if (sum > target) break;
  }
  return last;
}

}  // namespace

absl::Status CheckSampling(const SamplingParams& sampling) {
  if (!std::isfinite(sampling.temperature) || sampling.temperature < 0)
    return Invalid("temperature", "0 (greedy) or more", sampling.temperature);
  if (!(sampling.top_p > 0 && sampling.top_p <= 1))
    return Invalid("top_p", "in (0, 1]", sampling.top_p);
  if (sampling.top_k < 0) return Invalid("top_k", "0 (off) or more", sampling.top_k);
  if (!(sampling.min_p >= 0 && sampling.min_p < 1))
    return Invalid("min_p", "in [0, 1)", sampling.min_p);
  if (sampling.max_new_tokens < 1)
    return Invalid("max_new_tokens", "positive", sampling.max_new_tokens);
  if (sampling.repetition_tokens != 0 &&
      (sampling.repetition_times < 2 || sampling.repetition_tokens < sampling.repetition_times))
    return Invalid("repetition_tokens", "0 (off), or at least repetition_times, itself 2 or more",
                   sampling.repetition_tokens);
  return absl::OkStatus();
}

SampledToken Sampler::Sample(std::span<const float> logits_V, const SamplingParams& sampling,
                             double uniform) {
  if (!AllFinite(logits_V)) return {};
  const float top = RowMax(logits_V);
  if (sampling.temperature == 0) {
    const double total = ExpWeights(logits_V, top, 1.0f, weights_, block_sums_);
    const auto first = std::find(logits_V.begin(), logits_V.end(), top);
    return {static_cast<int32_t>(first - logits_V.begin()), -static_cast<float>(std::log(total)),
            true};
  }
  const float scale = ScaleOf(sampling.temperature);
  if (Truncates(sampling)) return SampleTruncated(logits_V, sampling, scale, top, uniform);
  return SampleAll(logits_V, scale, top, uniform);
}

SampledToken Sampler::SampleAll(std::span<const float> logits_V, float scale, float top,
                                double uniform) {
  const double total = ExpWeights(logits_V, top, scale, weights_, block_sums_);
  double target = uniform * total;
  size_t block = 0;
  while (block + 1 < block_sums_.size() && target >= block_sums_[block])
    target -= block_sums_[block++];
  // Rounding can leave the draw in a last block without weight.
  while (block > 0 && block_sums_[block] == 0) --block;
  const size_t begin = block * kRowBlock;
  const size_t size = std::min(kRowBlock, weights_.size() - begin);
  const size_t token = begin + Invert(std::span(weights_).subspan(begin, size), target);
  const float logprob = (logits_V[token] - top) * scale - static_cast<float>(std::log(total));
  return {static_cast<int32_t>(token), logprob, true};
}

SampledToken Sampler::SampleTruncated(std::span<const float> logits_V,
                                      const SamplingParams& sampling, float scale, float top,
                                      double uniform) {
  Truncate(logits_V, sampling, scale, top);
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  const size_t rank = Invert(weights_, uniform * total);
  const float logprob =
      (logits_V[ranked_[rank]] - top) * scale - static_cast<float>(std::log(total));
  return {ranked_[rank], logprob, true};
}

// Each rule keeps a prefix of the ranking, so the shortest prefix is what all of them keep.
void Sampler::Truncate(std::span<const float> logits_V, const SamplingParams& sampling, float scale,
                       float top) {
  const size_t vocab = logits_V.size();
  const size_t top_k = sampling.top_k > 0 ? std::min<size_t>(sampling.top_k, vocab) : vocab;
  double mass = 0;  // of what top_k leaves, which top_p is a share of
  size_t ranked = top_k;
  const double top_p =
      sampling.top_p < 1 ? sampling.top_p : std::numeric_limits<double>::infinity();
  if (sampling.top_k == 0 || top_k == vocab) {
    mass = ExpWeights(logits_V, top, scale, weights_, block_sums_);
    ranked = std::min(kFirstRanked, vocab);
  }
  while (true) {
    RankAtLeast(logits_V, ranked, scale, top);
    if (ranked == top_k) mass = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    size_t keep = 0;
    double sum = 0;
    while (keep < ranked &&
           (keep == 0 || (sum < top_p * mass && weights_[keep] >= sampling.min_p * weights_[0])))
      sum += weights_[keep++];
    if (keep < ranked || ranked == top_k) {
      ranked_.resize(keep);
      weights_.resize(keep);
      return;
    }
    ranked = std::min(ranked * 4, top_k);  // the cut lies further down
  }
}

void Sampler::RankAtLeast(std::span<const float> logits_V, size_t count, float scale, float top) {
  ranked_.resize(logits_V.size());
  std::iota(ranked_.begin(), ranked_.end(), 0);
  const auto likelier = [logits_V](int32_t a, int32_t b) {
    return logits_V[a] > logits_V[b] || (logits_V[a] == logits_V[b] && a < b);
  };
  if (count < ranked_.size())
    std::nth_element(ranked_.begin(), ranked_.begin() + count, ranked_.end(), likelier);
  ranked_.resize(count);
  std::sort(ranked_.begin(), ranked_.end(), likelier);
  weights_.resize(count);
  for (size_t i = 0; i < count; ++i) weights_[i] = std::exp((logits_V[ranked_[i]] - top) * scale);
}

float Sampler::Logprob(std::span<const float> logits_V, int32_t token) {
  const float top = RowMax(logits_V);
  const double total = ExpWeights(logits_V, top, 1.0f, weights_, block_sums_);
  return logits_V[static_cast<size_t>(token)] - top - static_cast<float>(std::log(total));
}

std::vector<TokenLogprob> Sampler::Likeliest(std::span<const float> logits_V,
                                             const SamplingParams& sampling, int32_t count) {
  const bool greedy = sampling.temperature == 0;  // nothing is cut off there
  const float scale = greedy ? 1.0f : ScaleOf(sampling.temperature);
  const float top = RowMax(logits_V);
  double total;
  if (!greedy && Truncates(sampling)) {
    Truncate(logits_V, sampling, scale, top);
    total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  } else {
    total = ExpWeights(logits_V, top, scale, weights_, block_sums_);
    RankAtLeast(logits_V, std::min(static_cast<size_t>(count), logits_V.size()), scale, top);
  }
  ranked_.resize(std::min(static_cast<size_t>(count), ranked_.size()));
  std::vector<TokenLogprob> likeliest;
  for (const int32_t token : ranked_) {
    likeliest.push_back({token, (logits_V[static_cast<size_t>(token)] - top) * scale -
                                    static_cast<float>(std::log(total))});
  }
  return likeliest;
}

std::vector<int32_t> Sampler::KeptTokens(std::span<const float> logits_V,
                                         const SamplingParams& sampling) {
  const float scale = sampling.temperature == 0 ? 1.0f : ScaleOf(sampling.temperature);
  Truncate(logits_V, sampling, scale, RowMax(logits_V));
  return ranked_;
}

}  // namespace tramontane
