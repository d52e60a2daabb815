// Passes over one row of logits, written so that the compiler vectorises them (row_math.cc is
// compiled with -O3): fixed lanes instead of a running sum, no branches, no library calls.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tramontane {

inline constexpr size_t kRowBlock = 64;

// False when any value is a NaN or an infinity.
bool AllFinite(std::span<const float> row);

float RowMax(std::span<const float> row);

// weights[i] = exp((row[i] − top)·scale), 0 once that is below e^−87; block_sums[b] = sum of the
// b-th kRowBlock of them. Both are resized. Relative error below 2e-7. Returns the total.
double ExpWeights(std::span<const float> row, float top, float scale, std::vector<float>& weights,
                  std::vector<double>& block_sums);

}  // namespace tramontane
