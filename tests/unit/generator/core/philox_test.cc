#include "generator/core/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace tramontane {
namespace {

TEST(Philox, EqualsThePublishedKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, 0),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawsAreUniformAndDifferByEveryCoordinate) {
  std::vector<int> bins(16, 0);
  std::set<double> seen;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
    for (uint32_t sample = 0; sample < 40; ++sample) {
      for (uint32_t position = 0; position < 40; ++position) {
        const double draw = UniformDraw(seed, sample, position);
        ASSERT_GE(draw, 0.0);
        ASSERT_LT(draw, 1.0);
        ++bins[static_cast<size_t>(draw * 16)];
        seen.insert(draw);
      }
    }
  }
  EXPECT_EQ(seen.size(), 4800u);
  double chi_squared = 0;
  for (int count : bins) chi_squared += (count - 300.0) * (count - 300.0) / 300.0;
  EXPECT_LT(chi_squared, 37.7);  // 15 degrees of freedom, p = 0.001
}

}  // namespace
}  // namespace tramontane
