// Runs packed copies of a model's weights through model/fused. Two buffers take turns: a staged
// version is packed into the one while the other is decoded from, and a swap exchanges them.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "generator/decoder.h"
#include "generator/engine.h"
#include "model/fused/fused_model.h"
#include "model/fused/packed_weights.h"
#include "model/fused/thread_team.h"
#include "model/model_config.h"

namespace tramontane {

class Transformer;

class FusedDecoder final : public Decoder {
 public:
  // Unimplemented: this model needs the other decoder, and why. InvalidArgument: weights_dtype.
  // `model` is read here only.
  static absl::StatusOr<std::unique_ptr<FusedDecoder>> Create(const EngineOptions& options,
                                                              const Transformer& model);

  absl::StatusOr<LogitRows> Forward(const StepPlan& plan) override;
  std::span<const uint8_t> routes() const override { return model_.routes(); }
  absl::StatusOr<std::vector<int32_t>> Foresee(const StepPlan& plan) override;
  absl::Status Prepare(StagedWeights& weights) override;
  absl::Status Apply(StagedWeights& weights) override;
  absl::StatusOr<std::vector<float>> Score(const std::vector<int32_t>& tokens) override;
  double RoundingTolerance() const override;

 private:
  FusedDecoder(const EngineOptions& options, const ModelConfig& config, kernels::WeightType type,
               RopeAngles angles, std::shared_ptr<PackedWeights> weights);
  // Row i of an item is the token `ahead` behind the item's ith.
  void Build(const StepPlan& plan, int32_t ahead);
  // Any thread: log p(tokens[t + 1] | tokens[0..t]) under `weights`, on the caller's thread alone.
  absl::StatusOr<std::vector<float>> ScoreBeside(const PackedWeights& weights,
                                                 const std::vector<int32_t>& tokens) const;

  const ModelConfig config_;
  const kernels::WeightType type_;
  const int64_t positions_;
  ThreadTeam team_;
  FusedModel model_;
  const PagedKv kv_;
  FusedStep step_;
  std::vector<int32_t> from_;               // rows of the last Forward
  std::shared_ptr<PackedWeights> weights_;  // in use
  std::mutex spare_mutex_;
  std::shared_ptr<PackedWeights> spare_;  // guarded by spare_mutex_; for the next version
};

}  // namespace tramontane
