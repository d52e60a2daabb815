// What an optimiser trains, and what a model computes with: often the same tensors, but adapters
// and weights of lower precision come between.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trainer/learner/gradient_hooks.h"
#include "trainer/learner/optimiser_state.h"

namespace tramontane {

class TrainedWeights {
 public:
  virtual ~TrainedWeights() = default;

  // The model's tensors that gradients are computed of.
  virtual const std::vector<at::Tensor>& leaves() const = 0;
  // What the optimiser changes, of one floating dtype, contiguous.
  virtual const NamedParameters& masters() const = 0;
  // From the gradient of a leaf to those of the masters that it is made of: take(master, gradient).
  // Several threads at once.
  virtual void Translate(size_t leaf, const at::Tensor& gradient,
                         const TakeGradient& take) const = 0;
  // Makes the leaves anew, from masters that have changed.
  virtual void Publish() = 0;
};

// The model's own tensors, all of them.
class WholeWeights final : public TrainedWeights {
 public:
  explicit WholeWeights(NamedParameters parameters) : masters_(std::move(parameters)) {
    for (const auto& [name, tensor] : masters_) leaves_.push_back(tensor);
  }

  const std::vector<at::Tensor>& leaves() const override { return leaves_; }
  const NamedParameters& masters() const override { return masters_; }
  void Translate(size_t leaf, const at::Tensor& gradient, const TakeGradient& take) const override {
    take(leaf, gradient);
  }
  void Publish() override {}

 private:
  const NamedParameters masters_;
  std::vector<at::Tensor> leaves_;
};

}  // namespace tramontane
