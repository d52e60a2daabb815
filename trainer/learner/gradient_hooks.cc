#include "trainer/learner/gradient_hooks.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>

#include "model/recompute.h"

namespace tramontane {
namespace {

// Who takes the gradients of the pass that this thread runs: a hook belongs to a tensor, which
// passes of several threads share, and autograd runs a pass over CPU tensors on its caller's
// thread.
thread_local const TakeGradient* taker = nullptr;

class TakerScope {
 public:
  explicit TakerScope(const TakeGradient& take) : outer_(std::exchange(taker, &take)) {}
  ~TakerScope() { taker = outer_; }

 private:
  const TakeGradient* const outer_;
};

}  // namespace

GradientHooks::GradientHooks(std::vector<at::Tensor> parameters)
    : parameters_(std::move(parameters)) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    hooks_.push_back(parameters_[i].register_hook([i](const at::Tensor& gradient) {
      // Somebody else's pass; or one within ours, whose gradients come by again.
      if (taker == nullptr || IsRecomputing()) return gradient;
      const at::NoGradGuard no_grad;
      (*taker)(i, gradient);
      // What autograd keeps until the end in its place has the shape and one element.
      return at::zeros({}, gradient.options()).expand_as(gradient);
    }));
  }
}

GradientHooks::~GradientHooks() {
  for (size_t i = 0; i < hooks_.size(); ++i) parameters_[i].remove_hook(hooks_[i]);
}

void GradientHooks::Backward(const at::Tensor& loss, const TakeGradient& take) const {
  const TakerScope scope(take);
  torch::autograd::grad({loss}, parameters_, /*grad_outputs=*/{}, /*retain_graph=*/false,
                        /*create_graph=*/false, /*allow_unused=*/true);
}

}  // namespace tramontane
