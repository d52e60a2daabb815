// Logits of a step's sampled rows, as a view: valid until the model's next step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tramontane {

struct LogitRows {
  const float* data = nullptr;
  int64_t stride = 0;  // floats from row to row
  int64_t vocab = 0;

  std::span<const float> operator[](int64_t row) const {
    return {data + row * stride, static_cast<size_t>(vocab)};
  }
};

}  // namespace tramontane
