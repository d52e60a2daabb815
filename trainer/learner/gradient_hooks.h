// Gradients one by one, as a backward pass comes to know them: each is taken at once and freed,
// where torch::autograd::grad would hold all of them until the end, a second copy of the model.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <vector>

namespace tramontane {

// `gradient` is that of parameter number `parameter`, whole. Called on the thread of the backward
// pass; must not keep the tensor.
using TakeGradient = std::function<void(size_t parameter, const at::Tensor& gradient)>;

// Several threads may run passes at once. The parameters must be leaves.
class GradientHooks {
 public:
  explicit GradientHooks(std::vector<at::Tensor> parameters);
  ~GradientHooks();
  GradientHooks(const GradientHooks&) = delete;
  GradientHooks& operator=(const GradientHooks&) = delete;

  // Calls `take` once for every parameter that `loss` depends on. Throws what tensor code and
  // `take` throw.
  void Backward(const at::Tensor& loss, const TakeGradient& take) const;

 private:
  const std::vector<at::Tensor> parameters_;
  std::vector<unsigned> hooks_;
};

}  // namespace tramontane
