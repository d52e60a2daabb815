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
  // The final-normed hidden states that the rows are logits of, back to back; may be null.
  const float* hidden = nullptr;
  int64_t hidden_size = 0;

  std::span<const float> operator[](int64_t row) const {
    return {data + row * stride, static_cast<size_t>(vocab)};
  }
  std::span<const float> Hidden(int64_t row) const {
    return {hidden + row * hidden_size, static_cast<size_t>(hidden_size)};
  }
};

}  // namespace tramontane
