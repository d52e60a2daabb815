// Root-mean-square norm over the last dimension, differentiable.
#pragma once

#include <ATen/core/Tensor.h>

namespace tramontane {

// x [rows, dim], weight [dim] -> [rows, dim]. The ATen path works in float32 inside, as
// transformers does, and rounds before the weight.
at::Tensor RmsNorm(const at::Tensor& x_RD, const at::Tensor& weight_D, double eps);
// The same with ATen operators on any device; also the reference in tests. Any leading dimensions.
at::Tensor RmsNormAten(const at::Tensor& x, const at::Tensor& weight_D, double eps);

}  // namespace tramontane
