#include "generator/core/row_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace tramontane {
namespace {

constexpr size_t kLanes = 16;

// exp(x) for x ≤ 0: 2^n · e^r with |r| ≤ ln2/2 and a polynomial of degree 6 for e^r.
inline float ExpNonPositive(float x) {
  constexpr float kSmallest = -87.0f;
  constexpr float kRoundMagic = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float clamped = x < kSmallest ? kSmallest : x;
  const float shifted = clamped * 1.44269504f + kRoundMagic;
  const float n = shifted - kRoundMagic;
  const float r = clamped - n * kLn2High - n * kLn2Low;
  float p = 1.9875691e-4f;
  p = p * r + 1.3981999e-3f;
  p = p * r + 8.3334519e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 5.0000001e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRoundMagic);
  const float power = std::bit_cast<float>((exponent + 127) << 23);
  return x < kSmallest ? 0.0f : p * power;
}

}  // namespace

bool AllFinite(std::span<const float> row) {
  constexpr uint32_t kExponent = 0x7F800000;
  uint32_t bad = 0;
  for (const float value : row)
    bad |= (std::bit_cast<uint32_t>(value) & kExponent) == kExponent ? 1u : 0u;
  return bad == 0;
}

float RowMax(std::span<const float> row) {
  std::array<float, kLanes> lanes;
  lanes.fill(row[0]);
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
  }
  float top = *std::max_element(lanes.begin(), lanes.end());
  for (; i < row.size(); ++i) top = std::max(top, row[i]);
  return top;
}

double ExpWeights(std::span<const float> row, float top, float scale, std::vector<float>& weights,
                  std::vector<double>& block_sums) {
  weights.resize(row.size());
  block_sums.clear();
  const float* in = row.data();
  float* out = weights.data();
  for (size_t i = 0; i < row.size(); ++i) out[i] = ExpNonPositive((in[i] - top) * scale);
  double total = 0;
  for (size_t begin = 0; begin < row.size(); begin += kRowBlock) {
    const size_t end = std::min(row.size(), begin + kRowBlock);
    std::array<float, kLanes> lanes{};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += out[i + lane];
    }
    double sum = 0;
    for (const float lane : lanes) sum += lane;
    for (; i < end; ++i) sum += out[i];
    block_sums.push_back(sum);
    total += sum;
  }
  return total;
}

}  // namespace tramontane
