#include "trainer/learner/weight_snapshot.h"

#include "model/score.h"
#include "model/transformer.h"
#include "model/weights/flatten.h"

namespace tramontane {
namespace {

constexpr int kProbeTokens = 24;

// Fixed, spread over the vocabulary, the same for every version of one model.
std::vector<int32_t> ProbeTokens(int64_t vocab_size) {
  std::vector<int32_t> tokens;
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (int i = 0; i < kProbeTokens; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

}  // namespace

WeightManifest SnapshotWeights(Transformer& model, int64_t version, double probe_tolerance,
                               std::vector<char>& payload) {
  WeightManifest manifest = FlattenWeights(model, version, payload);
  manifest.probe_tokens = ProbeTokens(model.config().vocab_size);
  manifest.probe_logprobs = ScoreTokens(model, manifest.probe_tokens);
  manifest.probe_tolerance = probe_tolerance;
  return manifest;
}

}  // namespace tramontane
