#include "model/ops/multiply.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include <optional>
#include <string_view>

namespace tramontane {
namespace {

// With fewer rows, what oneDNN does before it multiplies costs more than it gains.
constexpr int64_t kFewRows = 128;

using Linear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                          std::string_view, c10::List<std::optional<at::Scalar>>,
                          std::optional<std::string_view>);

// oneDNN's product, which PyTorch's compiler calls for linear layers.
at::Tensor OneDnnLinear(const at::Tensor& x_RI, const at::Tensor& weight_OI,
                        const at::Tensor& bias_O) {
  static const auto linear = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                                 .typed<Linear>();
  const auto bias = bias_O.defined() ? std::optional(bias_O) : std::nullopt;
  return linear.call(x_RI, weight_OI, bias, /*attr=*/"none", c10::List<std::optional<at::Scalar>>(),
                     /*algorithm=*/"");
}

}  // namespace

// MKL, which at::mm calls for float32, has no AVX-512 kernels for AMD's processors; oneDNN's serve
// all. (A gradient of weights, where rows are added up, is made by MKL as fast.)
at::Tensor TimesTransposed(const at::Tensor& x_RI, const at::Tensor& weight_OI,
                           const at::Tensor& bias_O) {
  if (x_RI.is_cpu() && x_RI.scalar_type() == at::kFloat && x_RI.size(0) >= kFewRows &&
      at::Context::hasMKLDNN()) {
    return OneDnnLinear(x_RI, weight_OI, bias_O);
  }
  return bias_O.defined() ? at::addmm(bias_O, x_RI, weight_OI.t()) : at::mm(x_RI, weight_OI.t());
}

at::Tensor Times(const at::Tensor& y_RO, const at::Tensor& weight_OI) {
  return TimesTransposed(y_RO, weight_OI.t());
}

}  // namespace tramontane
