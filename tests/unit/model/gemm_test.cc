// Packed products on every instruction set of this machine, against sums in double precision.
#include "model/ops/cpu/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace tramontane::kernels {
namespace {

std::vector<const GemmTable*> Tables() {
  const GemmTable* tables[3];
  const int n = RunnableGemms(tables);
  return {tables, tables + n};
}

std::vector<float> RandomFloats(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(generator);
  return x;
}

float ToBfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

// A matrix [outputs, inputs] as it was and as packed for one table; outputs are padded with zeros.
struct Packed {
  Packed(const GemmTable& table, WeightType type, int64_t outputs, int64_t inputs)
      : table(table), type(type), outputs(outputs), inputs(inputs) {
    padded = (outputs + table.lanes - 1) / table.lanes * table.lanes;
    source = RandomFloats(outputs * inputs, 7);
    bias = RandomFloats(outputs, 8);
    bias.resize(padded, 0);
    std::vector<const float*> rows(padded, nullptr);
    for (int64_t o = 0; o < outputs; ++o) rows[o] = &source[o * inputs];
    bytes.resize(padded * inputs * WeightBytes(type));
    scales.resize(padded);
    table.pack(type, padded, inputs, rows.data(), bytes.data(), scales.data());
  }

  int64_t panels() const { return (padded + table.panel - 1) / table.panel; }

  GemmCall Call(const std::vector<float>& x, std::vector<float>& y, Epilogue epilogue) const {
    return {.type = type,
            .epilogue = epilogue,
            .rows = static_cast<int64_t>(x.size()) / inputs,
            .inputs = inputs,
            .outputs = padded,
            .x = x.data(),
            .x_stride = inputs,
            .weights = bytes.data(),
            .scales = scales.data(),
            .bias = bias.data(),
            .y = y.data(),
            .y_stride = padded,
            .first_panel = 0,
            .end_panel = panels()};
  }

  // What the packed weight means.
  double Weight(int64_t o, int64_t k) const {
    const float w = source[o * inputs + k];
    if (type == WeightType::kFloat32) return w;
    if (type == WeightType::kBfloat16) return ToBfloat16(w);
    float most = 0;
    for (int64_t i = 0; i < inputs; ++i) most = std::max(most, std::fabs(source[o * inputs + i]));
    return std::nearbyint(w * (127.0f / most)) * (most / 127.0f);
  }
  double Output(const std::vector<float>& x, int64_t r, int64_t o) const {
    double sum = bias[o];
    for (int64_t k = 0; k < inputs; ++k) sum += double{x[r * inputs + k]} * Weight(o, k);
    return sum;
  }

  const GemmTable& table;
  WeightType type;
  int64_t outputs, inputs, padded = 0;
  std::vector<float> source, bias, scales;
  std::vector<char> bytes;
};

constexpr WeightType kTypes[] = {WeightType::kFloat32, WeightType::kBfloat16, WeightType::kInt8};

TEST(Gemm, EqualsTheSumsInDouble) {
  for (const GemmTable* table : Tables()) {
    for (const WeightType type : kTypes) {
      for (const int64_t outputs : {int64_t{3}, table->lanes, 2 * table->lanes + 1,
                                    3 * table->lanes, 3 * table->panel + 5}) {
        const Packed matrix(*table, type, outputs, 37);
        for (int64_t rows = 1; rows <= 2 * table->tile_rows + 1; ++rows) {
          const std::vector<float> x = RandomFloats(rows * 37, 5);
          for (const Epilogue epilogue : {Epilogue::kStore, Epilogue::kAdd}) {
            std::vector<float> y(rows * matrix.padded, 0.5f);
            table->multiply(matrix.Call(x, y, epilogue));
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t o = 0; o < outputs; ++o) {
                const double expected =
                    matrix.Output(x, r, o) + (epilogue == Epilogue::kAdd ? 0.5 : 0.0);
                ASSERT_NEAR(y[r * matrix.padded + o], expected,
                            type == WeightType::kInt8 ? 1e-4 : 2e-5)
                    << table->isa << " type " << int(type) << " rows " << rows << " output " << o;
              }
            }
          }
        }
      }
    }
  }
}

TEST(Gemm, SwiGluTakesGatesFromTheFirstHalfOfEachPanel) {
  for (const GemmTable* table : Tables()) {
    const int64_t outputs = 2 * table->panel + table->panel / 2;  // the last panel is half as wide
    const Packed matrix(*table, WeightType::kFloat32, outputs, 21);
    const std::vector<float> x = RandomFloats(5 * 21, 6);
    std::vector<float> y(5 * matrix.padded);
    table->multiply(matrix.Call(x, y, Epilogue::kSwiGlu));
    for (int64_t r = 0; r < 5; ++r) {
      for (int64_t panel = 0; panel < outputs; panel += table->panel) {
        const int64_t half = std::min(table->panel, outputs - panel) / 2;
        for (int64_t i = 0; i < half; ++i) {
          const double gate = matrix.Output(x, r, panel + i);
          const double up = matrix.Output(x, r, panel + half + i);
          ASSERT_NEAR(y[r * matrix.padded + panel / 2 + i], gate / (1 + std::exp(-gate)) * up, 5e-5)
              << table->isa << " row " << r << " panel " << panel << " column " << i;
        }
      }
    }
  }
}

TEST(Gemm, ARowIsTheSameBitForBitInEveryBatchAndSplit) {
  for (const GemmTable* table : Tables()) {
    for (const WeightType type : kTypes) {
      const Packed matrix(*table, type, 2 * table->panel + 9, 130);
      const int64_t rows = 3 * table->tile_rows + 2;
      const std::vector<float> x = RandomFloats(rows * 130, 3);
      std::vector<float> together(rows * matrix.padded), alone(matrix.padded);
      table->multiply(matrix.Call(x, together, Epilogue::kStore));
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<float> row(x.begin() + r * 130, x.begin() + (r + 1) * 130);
        for (int64_t p = 0; p < matrix.panels(); ++p) {
          GemmCall call = matrix.Call(row, alone, Epilogue::kStore);
          call.first_panel = p;
          call.end_panel = p + 1;
          table->multiply(call);
        }
        ASSERT_EQ(std::memcmp(alone.data(), &together[r * matrix.padded], matrix.padded * 4), 0)
            << table->isa << " type " << int(type) << " row " << r;
      }
    }
  }
}

TEST(Gemm, NansAndInfinitiesInWeightsReachTheOutput) {
  for (const GemmTable* table : Tables()) {
    for (const WeightType type : kTypes) {
      for (const float bad : {NAN, INFINITY}) {
        std::vector<float> row = {1, bad, 2, 3};
        std::vector<const float*> rows(table->lanes, nullptr);
        rows[1] = row.data();
        std::vector<char> bytes(table->lanes * 4 * WeightBytes(type));
        std::vector<float> scales(table->lanes), y(table->lanes);
        table->pack(type, table->lanes, 4, rows.data(), bytes.data(), scales.data());
        const std::vector<float> x = {1, 1, 1, 1};
        table->multiply({.type = type,
                         .rows = 1,
                         .inputs = 4,
                         .outputs = table->lanes,
                         .x = x.data(),
                         .x_stride = 4,
                         .weights = bytes.data(),
                         .scales = scales.data(),
                         .y = y.data(),
                         .y_stride = table->lanes,
                         .first_panel = 0,
                         .end_panel = 1});
        EXPECT_FALSE(std::isfinite(y[1])) << table->isa << " type " << int(type) << " " << bad;
        EXPECT_EQ(y[0], 0);
      }
    }
  }
}

}  // namespace
}  // namespace tramontane::kernels
