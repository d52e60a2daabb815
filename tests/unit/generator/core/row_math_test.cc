#include "generator/core/row_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace tramontane {
namespace {

std::vector<float> RandomRow(size_t size, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(size);
  for (float& value : row) value = normal(random);
  return row;
}

TEST(RowMath, FindsEveryNonFiniteValueWhereverItStands) {
  for (size_t size : {1u, 15u, 16u, 17u, 264u}) {
    std::vector<float> row = RandomRow(size, 3, 1);
    EXPECT_TRUE(AllFinite(row));
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      for (size_t i = 0; i < size; ++i) {
        std::vector<float> broken = row;
        broken[i] = bad;
        ASSERT_FALSE(AllFinite(broken));
      }
    }
  }
}

TEST(RowMath, MaximumIsExactForEverySizeAndPlace) {
  for (size_t size = 1; size < 70; ++size) {
    for (size_t i = 0; i < size; ++i) {
      std::vector<float> row(size, -5.0f);
      row[i] = -1.0f;
      ASSERT_EQ(RowMax(row), -1.0f);
    }
  }
}

TEST(RowMath, ExponentialsAgreeWithTheLibrary) {
  std::vector<float> weights;
  std::vector<double> sums;
  for (float spread : {0.1f, 3.0f, 40.0f}) {
    const std::vector<float> row = RandomRow(1000, spread, 5);
    const float top = RowMax(row);
    const double total = ExpWeights(row, top, 1.0f, weights, sums);
    double expected_total = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      const float x = row[i] - top;
      const double expected = x < -87.0f ? 0 : std::exp(static_cast<double>(x));
      ASSERT_NEAR(weights[i], expected, 2e-7 * expected) << x;
      expected_total += expected;
    }
    EXPECT_NEAR(total, expected_total, 1e-6 * expected_total);
    EXPECT_EQ(sums.size(), (row.size() + kRowBlock - 1) / kRowBlock);
  }
}

}  // namespace
}  // namespace tramontane
