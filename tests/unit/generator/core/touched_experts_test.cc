#include "generator/core/touched_experts.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/rollout.h"

namespace tramontane {
namespace {

TEST(TouchedExperts, AreCountedOnceInEachLayer) {
  // Two layers, two experts a token.
  const std::vector<uint8_t> one = {0, 1, 5, 7}, two = {0, 1, 5, 7, 1, 2, 5, 7};
  EXPECT_EQ(TouchedExperts(one, 2, 2), 4);
  EXPECT_EQ(TouchedExperts(two, 2, 2), 5);
  EXPECT_EQ(TouchedExperts({}, 2, 2), 0);
  EXPECT_EQ(TouchedExperts({}, 0, 0), 0) << "a model without experts";
  const std::vector<uint8_t> none = {kNoRoute, kNoRoute, 254, 0};
  EXPECT_EQ(TouchedExperts(none, 2, 2), 2);
}

}  // namespace
}  // namespace tramontane
