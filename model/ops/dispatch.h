// Whether a tensor can go to the CPU kernels, and with which element type.
#pragma once

#include <ATen/core/Tensor.h>

namespace tramontane {

// Everything else (another device, bfloat16, float16) takes the ATen operators.
inline bool HasCpuKernels(const at::Tensor& t) {
  return t.is_cpu() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble);
}

// Calls f.operator()<float>() or <double>() after the tensor's type; HasCpuKernels must hold.
template <typename F>
auto DispatchElement(const at::Tensor& t, F&& f) {
  if (t.scalar_type() == at::kDouble) return f.template operator()<double>();
  return f.template operator()<float>();
}

template <typename T>
const T* DataOrNull(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<T>() : nullptr;
}

}  // namespace tramontane
