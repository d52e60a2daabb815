// The seam between the engine's loop and the two ways to run a model for sampling: the fused one
// (FusedDecoder, CPU, float32 models) and LibTorch's (TorchDecoder: everything else, and the oracle
// that the fused one is tested against). Torch-free.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "generator/core/scheduler.h"
#include "model/logit_rows.h"
#include "model/weights/manifest.h"

namespace tramontane {

class PackedWeights;

// A verified version, beside the one in use.
struct StagedWeights {
  WeightManifest manifest;
  std::vector<char> payload;              // empty once packed
  std::shared_ptr<PackedWeights> packed;  // FusedDecoder alone
  // What Score would say of the manifest's probe under these weights, where Prepare could find out.
  std::optional<std::vector<float>> probe_scores;
};

// Owns the model's weights as it needs them and the keys and values behind the scheduler's block
// ids.
class Decoder {
 public:
  virtual ~Decoder() = default;

  // Engine thread. Runs the plan's copies, then computes its tokens. One row of logits for each
  // item that samples, with its hidden state, in the plan's order, valid until the next call.
  virtual absl::StatusOr<LogitRows> Forward(const StepPlan& plan) = 0;
  // Engine thread: through which experts the last plan's tokens went, in its order. uint8 [tokens,
  // expert layers, experts per token]; empty without experts; valid until the next Forward.
  virtual std::span<const uint8_t> routes() const = 0;

  // Engine thread, for models with a multi-token-prediction head, when the step's tokens are drawn:
  // the head over those rows of the last plan whose next token is known by now. `plan` holds its
  // items again, cut to these rows (copies are not looked at); for each with a logit row, the token
  // that is the likeliest behind the newest.
  virtual absl::StatusOr<std::vector<int32_t>> Foresee(const StepPlan& plan) = 0;

  // Any thread, while steps are computed: whatever of a swap can be done ahead of it, the probe's
  // scores included. `weights` has been verified and is of this model.
  virtual absl::Status Prepare(StagedWeights& weights) = 0;
  // Engine thread, between steps: prepared weights take the place of those in use. The
  // manifest stays; the rest of `weights` means nothing afterwards.
  virtual absl::Status Apply(StagedWeights& weights) = 0;
  // Engine thread, between steps: log p(tokens[t + 1] | tokens[0..t]) for each t, under the weights
  // in use. Leaves the sequences' keys and values alone.
  virtual absl::StatusOr<std::vector<float>> Score(const std::vector<int32_t>& tokens) = 0;
  // By how much a log-probability may be off because weights are rounded: what a probe must allow.
  virtual double RoundingTolerance() const { return 0; }
};

}  // namespace tramontane
