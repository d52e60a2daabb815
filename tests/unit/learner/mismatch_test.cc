#include "trainer/learner/mismatch.h"

#include <gtest/gtest.h>

#include <limits>

namespace tramontane {
namespace {

TEST(Mismatch, EqualLogProbabilitiesAreNone) {
  MismatchSums sums;
  EXPECT_EQ(sums.effective_sample_ratio(), 1);
  for (double logprob : {-0.1, -3.0, -11.0}) sums.Add(logprob, logprob);
  EXPECT_EQ(sums.tokens(), 3);
  EXPECT_EQ(sums.kl(), 0);
  EXPECT_EQ(sums.chi_squared(), 0);
  EXPECT_EQ(sums.effective_sample_ratio(), 1);
}

// Ratios 1, 2 and 1/2: Σw = 3.5, Σw² = 5.25, Σ(w − 1 − ln w) = 1 − ln 2 − ½ + ln 2 = ½.
TEST(Mismatch, IsWhatOneComputesByHand) {
  MismatchSums first, second;
  first.Add(-1.0, -1.0);
  first.Add(std::log(0.5), std::log(0.25));
  second.Add(std::log(0.25), std::log(0.5));
  first.Add(second);
  EXPECT_EQ(first.tokens(), 3);
  EXPECT_NEAR(first.kl(), 0.5 / 3, 1e-12);
  EXPECT_NEAR(first.effective_sample_ratio(), 12.25 / 15.75, 1e-12);
  EXPECT_NEAR(first.chi_squared(), 0.75, 1e-12);
}

TEST(Mismatch, StaysFiniteWhateverTheRatio) {
  MismatchSums sums;
  sums.Add(0, -std::numeric_limits<double>::infinity());
  sums.Add(-std::numeric_limits<double>::infinity(), 0);
  EXPECT_TRUE(std::isfinite(sums.kl()));
  EXPECT_TRUE(std::isfinite(sums.chi_squared()));
  EXPECT_NEAR(sums.effective_sample_ratio(), 0.5, 1e-6);
}

}  // namespace
}  // namespace tramontane
