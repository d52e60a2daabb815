#include "model/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <memory>
#include <utility>

namespace tramontane {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Part = std::function<at::Tensor(const at::Tensor&)>;

thread_local int recomputing = 0;

struct RecomputingScope {
  RecomputingScope() { ++recomputing; }
  ~RecomputingScope() { --recomputing; }
};

// Carries the function through autograd's own storage.
struct PartHolder : torch::CustomClassHolder {
  explicit PartHolder(Part p) : part(std::move(p)) {}
  const Part part;
};

struct RecomputedFunction : torch::autograd::Function<RecomputedFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, at::TensorList parameters,
                            const c10::intrusive_ptr<PartHolder>& holder) {
    ctx->save_for_backward({x});
    ctx->saved_data["parameters"] = parameters.vec();
    ctx->saved_data["part"] = c10::IValue::make_capsule(holder);
    const at::NoGradGuard no_grad;
    return holder->part(x);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const RecomputingScope scope;
    const at::AutoGradMode with_grad(true);
    const auto holder =
        c10::static_intrusive_pointer_cast<PartHolder>(ctx->saved_data["part"].toCapsule());
    const std::vector<at::Tensor> parameters = ctx->saved_data["parameters"].toTensorVector();
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    variable_list inputs = {x};
    inputs.insert(inputs.end(), parameters.begin(), parameters.end());
    variable_list result = torch::autograd::grad({holder->part(x)}, inputs, {grads[0]},
                                                 /*retain_graph=*/false, /*create_graph=*/false,
                                                 /*allow_unused=*/true);
    result.push_back(at::Tensor());
    return result;
  }
};

}  // namespace

at::Tensor Recomputed(Part part, const at::Tensor& x, const std::vector<at::Tensor>& parameters) {
  return RecomputedFunction::apply(x, at::TensorList(parameters),
                                   c10::make_intrusive<PartHolder>(std::move(part)));
}

bool IsRecomputing() { return recomputing > 0; }

}  // namespace tramontane
