// AdamW over a fixed list of parameters: torch's own fused kernel, moments in two flat tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tramontane {

// A flat tensor and its views in the shapes of a parameter list, one after the other.
struct FlatTensor {
  at::Tensor flat;                // [elements]
  std::vector<at::Tensor> views;  // share its storage
};
FlatTensor MakeFlatLike(const std::vector<at::Tensor>& parameters);  // zeros

class AdamW {
 public:
  struct Options {
    double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  };
  // Parameters must share one floating dtype.
  AdamW(std::vector<at::Tensor> parameters, Options options);

  // Decoupled weight decay on every parameter, as torch.optim.AdamW. `gradients` has the
  // parameters' shapes. Not differentiable; updates in place.
  void Step(const std::vector<at::Tensor>& gradients, double learning_rate, double weight_decay);
  void Reset();  // moments and step count to zero

  // For checkpoints: the flat moments [elements] and the number of updates made.
  const at::Tensor& first_moment() const { return first_.flat; }
  const at::Tensor& second_moment() const { return second_.flat; }
  int64_t updates() const { return updates_; }
  // InvalidArgument when the sizes or dtypes do not fit.
  absl::Status Restore(const at::Tensor& first, const at::Tensor& second, int64_t updates);

 private:
  const std::vector<at::Tensor> parameters_;
  const Options options_;
  FlatTensor first_, second_;
  std::vector<at::Tensor> step_tensors_;  // one scalar, named once per parameter
  int64_t updates_ = 0;
};

}  // namespace tramontane
