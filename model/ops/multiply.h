// Products with weights where training spends its time.
#pragma once

#include <ATen/core/Tensor.h>

namespace tramontane {

// x W^T (+ bias): x [R, I], weight [O, I], bias [O] or undefined, all of one type, to [R, O]. No
// gradient is recorded.
at::Tensor TimesTransposed(const at::Tensor& x_RI, const at::Tensor& weight_OI,
                           const at::Tensor& bias_O = {});

// y W, the gradient of x above: y [R, O], weight [O, I], to [R, I]. No gradient is recorded.
at::Tensor Times(const at::Tensor& y_RO, const at::Tensor& weight_OI);

}  // namespace tramontane
