#include "model/ops/rms_norm.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "model/ops/cpu/kernels.h"
#include "model/ops/dispatch.h"

namespace tramontane {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor ForwardCpu(const at::Tensor& x, const at::Tensor& weight, double eps, at::Tensor* rstd) {
  at::Tensor y = at::empty(x.sizes(), x.options());
  if (rstd != nullptr) *rstd = at::empty({x.size(0)}, x.options());
  DispatchElement(x, [&]<typename T>() {
    kernels::Kernels<T>().rms_norm(x.size(0), x.size(1), x.const_data_ptr<T>(),
                                   weight.const_data_ptr<T>(), eps, y.mutable_data_ptr<T>(),
                                   rstd ? rstd->mutable_data_ptr<T>() : nullptr);
  });
  return y;
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor rstd;
    at::Tensor y = ForwardCpu(x, weight, eps, &rstd);
    ctx->save_for_backward({x, weight, rstd});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2];
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dx = at::empty(x.sizes(), x.options()), d_weight = at::zeros_like(weight);
    DispatchElement(x, [&]<typename T>() {
      kernels::Kernels<T>().rms_norm_backward(
          x.size(0), x.size(1), dy.const_data_ptr<T>(), x.const_data_ptr<T>(),
          weight.const_data_ptr<T>(), rstd.const_data_ptr<T>(), nullptr, dx.mutable_data_ptr<T>(),
          d_weight.mutable_data_ptr<T>());
    });
    return {dx, d_weight, {}};
  }
};

}  // namespace

at::Tensor RmsNormAten(const at::Tensor& x, const at::Tensor& weight_D, double eps) {
  const at::Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const at::Tensor normed = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return weight_D * normed.to(x.scalar_type());
}

at::Tensor RmsNorm(const at::Tensor& x_RD, const at::Tensor& weight_D, double eps) {
  if (!HasCpuKernels(x_RD)) return RmsNormAten(x_RD, weight_D, eps);
  const at::Tensor x = x_RD.contiguous();
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight_D.requires_grad())) {
    return RmsNormFunction::apply(x, weight_D, eps);
  }
  return ForwardCpu(x, weight_D, eps, nullptr);
}

}  // namespace tramontane
