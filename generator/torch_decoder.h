// Runs the trainer's own Transformer through LibTorch: any architecture, device and dtype.
#pragma once

#include <memory>
#include <vector>

#include "generator/decoder.h"
#include "generator/engine.h"
#include "generator/kv_cache.h"
#include "generator/step_batch.h"
#include "model/transformer.h"

namespace tramontane {

class TorchDecoder final : public Decoder {
 public:
  // Throws c10::Error when memory is short.
  TorchDecoder(const EngineOptions& options, std::shared_ptr<Transformer> model);

  absl::StatusOr<LogitRows> Forward(const StepPlan& plan) override;
  std::span<const uint8_t> routes() const override;
  absl::StatusOr<std::vector<int32_t>> Foresee(const StepPlan& plan) override;
  absl::Status Prepare(StagedWeights& weights) override;
  absl::Status Apply(StagedWeights& weights) override;  // in place: addresses stay
  absl::StatusOr<std::vector<float>> Score(const std::vector<int32_t>& tokens) override;

 private:
  void EnterEngineThread();

  const std::shared_ptr<Transformer> model_;
  const int threads_;
  bool entered_ = false;
  KvCache cache_;
  StepBatch batch_;
  at::Tensor hidden_TD_, sampled_RD_, logits_RV_;  // of the last step
  Routing routing_;
};

}  // namespace tramontane
