#include "trainer/learner/adamw.h"

#include <ATen/ATen.h>
#include <ATen/ops/_fused_adamw.h>

#include <utility>

namespace tramontane {

FlatTensor MakeFlatLike(const std::vector<at::Tensor>& parameters) {
  int64_t elements = 0;
  for (const at::Tensor& parameter : parameters) elements += parameter.numel();
  FlatTensor result;
  result.flat = at::zeros({elements}, parameters.at(0).options().requires_grad(false));
  int64_t offset = 0;
  for (const at::Tensor& parameter : parameters) {
    result.views.push_back(result.flat.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    offset += parameter.numel();
  }
  return result;
}

AdamW::AdamW(std::vector<at::Tensor> parameters, Options options)
    : parameters_(std::move(parameters)),
      options_(options),
      first_(MakeFlatLike(parameters_)),
      second_(MakeFlatLike(parameters_)),
      step_tensors_(parameters_.size(), at::zeros({}, at::kFloat)) {}

void AdamW::Step(const std::vector<at::Tensor>& gradients, double learning_rate, double weight_decay) {
  const at::NoGradGuard no_grad;
  ++updates_;
  step_tensors_[0].fill_(static_cast<double>(updates_));
  at::_fused_adamw_(parameters_, gradients, first_.views, second_.views, /*max_exp_avg_sqs=*/{}, step_tensors_,
                    learning_rate, options_.beta1, options_.beta2, weight_decay, options_.epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
}

void AdamW::Reset() {
  first_.flat.zero_();
  second_.flat.zero_();
  updates_ = 0;
}

absl::Status AdamW::Restore(const at::Tensor& first, const at::Tensor& second, int64_t updates) {
  for (const at::Tensor* moment : {&first, &second}) {
    if (moment->sizes() != first_.flat.sizes() || moment->scalar_type() != first_.flat.scalar_type()) {
      return absl::InvalidArgumentError("optimiser state has another size or dtype than the model");
    }
  }
  if (updates < 0) return absl::InvalidArgumentError("optimiser state has a negative update count");
  first_.flat.copy_(first);
  second_.flat.copy_(second);
  updates_ = updates;
  return absl::OkStatus();
}

}  // namespace tramontane
