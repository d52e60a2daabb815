// Parameters as one flat array, the order of gradients, moments and their files: which stretch of
// it belongs to whom.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <span>
#include <vector>

#include "trainer/ranks/rank_group.h"

namespace tramontane {

inline size_t CountElements(const std::vector<at::Tensor>& tensors) {
  int64_t elements = 0;
  for (const at::Tensor& tensor : tensors) elements += tensor.numel();
  return static_cast<size_t>(elements);
}

// The part of `range` inside `window`, counted from where the window begins; empty ones lie at the
// side that they are on.
inline Range Within(const Range& range, const Range& window) {
  const auto place = [&](size_t at) {
    return std::clamp(at, window.begin, window.end) - window.begin;
  };
  return {place(range.begin), place(range.end)};
}

// Calls f(std::span<float>) or f(std::span<double>) over a contiguous tensor.
template <class F>
absl::Status WithSpan(const at::Tensor& tensor, F&& f) {
  const auto size = static_cast<size_t>(tensor.numel());
  if (tensor.scalar_type() == at::kDouble)
    return f(std::span<double>(tensor.mutable_data_ptr<double>(), size));
  return f(std::span<float>(tensor.mutable_data_ptr<float>(), size));
}

// One-dimensional views of the parameters, sharing their storage, that together are `range`.
inline std::vector<at::Tensor> Pieces(const std::vector<at::Tensor>& parameters,
                                      const Range& range) {
  std::vector<at::Tensor> pieces;
  size_t begin = 0;
  for (const at::Tensor& parameter : parameters) {
    const size_t end = begin + static_cast<size_t>(parameter.numel());
    const Range part = Within(range, {begin, end});
    if (part.size() > 0) {
      pieces.push_back(parameter.detach().view({-1}).narrow(0, static_cast<int64_t>(part.begin),
                                                            static_cast<int64_t>(part.size())));
    }
    begin = end;
  }
  return pieces;
}

}  // namespace tramontane
