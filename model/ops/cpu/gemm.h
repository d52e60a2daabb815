// Products of a few rows with a packed weight matrix: y = x W^T, as decoding needs them.
// Torch-free.
//
// W [outputs, inputs] is packed once into panels of `kPanelVectors` vectors of outputs, inputs
// outermost, so that a product reads it in order. Every output is one chain of multiply-adds over
// the inputs in order: a row's result does not depend on the other rows of the call, nor on how
// panels and rows are shared out over threads.
#pragma once

#include <cstdint>

namespace tramontane::kernels {

enum class WeightType { kFloat32, kBfloat16, kInt8 };

constexpr int64_t WeightBytes(WeightType type) {
  return type == WeightType::kFloat32 ? 4 : type == WeightType::kBfloat16 ? 2 : 1;
}

// What becomes of the products (scaled and biased): written, added to y, or, where each panel holds
// gates in its first half and ups in its second, silu(gate) * up written.
enum class Epilogue { kStore, kAdd, kSwiGlu };

struct GemmCall {
  WeightType type = WeightType::kFloat32;
  Epilogue epilogue = Epilogue::kStore;
  int64_t rows = 0, inputs = 0;
  int64_t outputs = 0;  // as packed: a multiple of `lanes`
  const float* x = nullptr;
  int64_t x_stride = 0;
  const void* weights = nullptr;  // all panels
  const float* scales = nullptr;  // [outputs], for kInt8
  const float* bias = nullptr;    // [outputs] or null
  // Rows must have room for whole vectors: y_stride is at least the outputs (half of them for
  // kSwiGlu).
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t first_panel = 0, end_panel = 0;
};

struct GemmTable {
  const char* isa;
  int64_t lanes;      // floats in a vector
  int64_t panel;      // outputs in a panel; the last one may be narrower
  int64_t tile_rows;  // rows that are computed together

  // rows[o]: source row [inputs] of packed output o, null for zeros. `out` takes outputs * inputs
  // elements; scales [outputs] is filled for kInt8 alone (largest weight = 127, nearest).
  void (*pack)(WeightType type, int64_t outputs, int64_t inputs, const float* const* rows,
               void* out, float* scales);
  void (*multiply)(const GemmCall& call);
};

const GemmTable& Gemm();
// Every table that this machine can run, the best first: for tests.
int RunnableGemms(const GemmTable* tables[3]);

}  // namespace tramontane::kernels
