// Activation checkpointing: a part of the model keeps its input alone, and what lies between is
// computed again when the backward pass comes by. Less memory for about a third more work.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace tramontane {

// part(x), differentiable in x and in `parameters`, the leaves that `part` uses. `part` and what it
// refers to must live until the backward pass; it must compute the same again.
at::Tensor Recomputed(std::function<at::Tensor(const at::Tensor&)> part, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters);

// Whether this thread is inside such a second computation: gradients that hooks on leaves see there
// come once more, in the pass around it.
bool IsRecomputing();

}  // namespace tramontane
