#include "trainer/learner/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace tramontane {
namespace {

int64_t Load(const PackPlan& plan, int32_t microbatch, const std::vector<int64_t>& lengths) {
  int64_t load = 0;
  for (int32_t i : plan.microbatches[microbatch]) load += lengths[i];
  return load;
}

std::vector<int64_t> RandomLengths(uint32_t seed, int count, int64_t longest) {
  std::mt19937 rng(seed);
  std::vector<int64_t> lengths(count);
  for (int64_t& length : lengths) length = std::uniform_int_distribution<int64_t>(0, longest)(rng);
  return lengths;
}

TEST(PackingTest, EverySequenceIsPackedOnceAndEveryMicrobatchComputedOnce) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const std::vector<int64_t> lengths = RandomLengths(seed, 1 + seed % 97, 1 + seed);
    const int workers = 1 + seed % 4;
    const PackPlan plan = PackSequences(lengths, 128, workers);
    std::vector<int> seen(lengths.size(), 0);
    for (const auto& members : plan.microbatches) {
      EXPECT_FALSE(members.empty());
      for (int32_t i : members) ++seen[i];
    }
    for (size_t i = 0; i < lengths.size(); ++i) EXPECT_EQ(seen[i], lengths[i] > 0 ? 1 : 0);
    std::vector<int> computed(plan.microbatches.size(), 0);
    ASSERT_EQ(plan.workers.size(), static_cast<size_t>(workers));
    for (const auto& list : plan.workers) {
      for (int32_t m : list) ++computed[m];
    }
    EXPECT_TRUE(std::all_of(computed.begin(), computed.end(), [](int n) { return n == 1; }));
    EXPECT_EQ(plan.tokens, std::accumulate(lengths.begin(), lengths.end(), int64_t{0}));
  }
}

TEST(PackingTest, CapacityHoldsUnlessOneSequenceIsLonger) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const std::vector<int64_t> lengths = RandomLengths(seed, 60, 150);
    const PackPlan plan = PackSequences(lengths, 128, 2);
    for (size_t m = 0; m < plan.microbatches.size(); ++m) {
      EXPECT_TRUE(Load(plan, static_cast<int32_t>(m), lengths) <= 128 || plan.microbatches[m].size() == 1);
    }
  }
}

TEST(PackingTest, MembersComeLongestFirst) {
  const std::vector<int64_t> lengths = {3, 9, 5, 9, 1};
  const PackPlan plan = PackSequences(lengths, 100, 1);
  ASSERT_EQ(plan.microbatches.size(), 1u);
  EXPECT_EQ(plan.microbatches[0], (std::vector<int32_t>{1, 3, 2, 0, 4}));
}

TEST(PackingTest, WorkersGetBalancedLoads) {
  std::vector<int64_t> lengths;
  for (int i = 0; i < 256; ++i) lengths.push_back(40 + i % 15);
  const PackPlan plan = PackSequences(lengths, 2048, 2);
  EXPECT_EQ(plan.microbatches.size() % 2, 0u);
  int64_t loads[2] = {0, 0};
  for (int w = 0; w < 2; ++w) {
    for (int32_t m : plan.workers[w]) loads[w] += Load(plan, m, lengths);
  }
  EXPECT_LT(std::abs(loads[0] - loads[1]), plan.tokens / 50);
}

TEST(PackingTest, NothingToPackGivesNoMicrobatches) {
  EXPECT_TRUE(PackSequences({}, 16, 2).microbatches.empty());
  EXPECT_TRUE(PackSequences({0, 0}, 16, 2).microbatches.empty());
  EXPECT_EQ(PackSequences({5}, 16, 4).microbatches.size(), 1u);
}

}  // namespace
}  // namespace tramontane
