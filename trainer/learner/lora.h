// Low-rank adapters (Hu et al., "LoRA", arXiv 2106.09685): of each target matrix W [out, in] only
// A [rank, in] and B [out, rank] are trained, and the model computes with W + s·B·A, s =
// alpha/rank.
//
// The model's tensors always hold the sum, so that every forward pass, every checkpoint and every
// published version is that of an ordinary model, with no adapter in the way; what the sum was made
// from is kept beside it, and gradients of the sum become those of A and B as they are known:
// dA = s·Bᵀ·dW, dB = s·dW·Aᵀ. Gradient buffers and moments are as small as the adapters; the price
// is a second copy of the target matrices, and that dW is computed at all.
//
// The learner's thread changes it; Translate may run in several.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "trainer/learner/trained_weights.h"

namespace tramontane {

class Transformer;

class LoraWeights final : public TrainedWeights {
 public:
  // A is drawn from the seed as PEFT draws it (uniform within ±1/√in), B is 0: the model computes
  // what it did. InvalidArgument: the model has no module of a name in lora.target_modules.
  static absl::StatusOr<std::unique_ptr<LoraWeights>> Create(const Transformer& model,
                                                             const LoraSection& section,
                                                             uint64_t seed);

  const std::vector<at::Tensor>& leaves() const override { return leaves_; }
  const NamedParameters& masters() const override { return masters_; }
  void Translate(size_t leaf, const at::Tensor& gradient, const TakeGradient& take) const override;
  void Publish() override;

  // PEFT's layout: adapter_config.json and adapter_model.safetensors in `dir`, which exists.
  // `base_model` is what PEFT shall load below it.
  absl::Status Save(const std::string& dir, const std::string& base_model) const;
  // Adapters of this rank and these targets, which are published at once. NotFound, DataLoss,
  // InvalidArgument (other targets or another rank; the first difference is named).
  absl::Status Load(const std::string& dir);

 private:
  // W's leaf and base, and where its A (then B) is among the masters.
  struct Target {
    std::string module;  // model.layers.0.self_attn.q_proj
    size_t leaf;
    at::Tensor base;
    size_t first_master;
  };

  explicit LoraWeights(const LoraSection& section)
      : section_(section), scale_(section.alpha / section.rank) {}
  const at::Tensor& A(const Target& target) const { return masters_[target.first_master].second; }
  const at::Tensor& B(const Target& target) const {
    return masters_[target.first_master + 1].second;
  }

  const LoraSection section_;
  const double scale_;
  std::vector<at::Tensor> leaves_;
  std::vector<Target> targets_;
  std::vector<int> target_of_;  // by leaf; -1: not trained
  NamedParameters masters_;
};

}  // namespace tramontane
