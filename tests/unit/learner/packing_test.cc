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

// Groups of up to 9 members that share up to 40 tokens.
std::vector<SharedLength> RandomGroups(uint32_t seed) {
  std::mt19937 rng(seed);
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(rng);
  };
  std::vector<SharedLength> lengths;
  for (int64_t group = 0; group < 1 + seed % 7; ++group) {
    const int64_t shared = draw(0, 40), members = draw(1, 9);
    for (int64_t i = 0; i < members; ++i)
      lengths.push_back({draw(0, 4) == 0 ? 0 : std::max<int64_t>(shared, 1) + draw(0, 90), group,
                         members > 1 ? shared : 0});
  }
  std::shuffle(lengths.begin(), lengths.end(), rng);
  return lengths;
}

// Each group's shared tokens once.
int64_t SharedLoad(const std::vector<int32_t>& members, const std::vector<SharedLength>& lengths) {
  int64_t load = 0;
  for (size_t n = 0; n < members.size(); ++n) {
    const SharedLength& length = lengths[members[n]];
    const auto same = [&](int32_t i) { return lengths[i].group == length.group; };
    const bool first = std::none_of(members.begin(), members.begin() + n, same);
    EXPECT_TRUE(first || same(members[n - 1])) << "members of a group stand side by side";
    load += length.tokens - (first ? 0 : length.shared);
  }
  return load;
}

TEST(PackingTest, SharingRowsArePackedOnceWithinTheCapacity) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const std::vector<SharedLength> lengths = RandomGroups(seed);
    const int workers = 1 + seed % 3;
    const PackPlan plan = PackSharing(lengths, 128, workers);
    std::vector<int> seen(lengths.size(), 0), computed(plan.microbatches.size(), 0);
    int64_t tokens = 0;
    for (const auto& members : plan.microbatches) {
      ASSERT_FALSE(members.empty());
      const int64_t load = SharedLoad(members, lengths);
      EXPECT_TRUE(load <= 128 || members.size() == 1) << load;
      tokens += load;
      for (int32_t i : members) ++seen[i];
    }
    for (size_t i = 0; i < lengths.size(); ++i) EXPECT_EQ(seen[i], lengths[i].tokens > 0 ? 1 : 0);
    EXPECT_EQ(plan.tokens, tokens);
    ASSERT_EQ(plan.workers.size(), static_cast<size_t>(workers));
    for (const auto& list : plan.workers) {
      for (int32_t m : list) ++computed[m];
    }
    EXPECT_TRUE(std::all_of(computed.begin(), computed.end(), [](int n) { return n == 1; }));
    const auto present = std::accumulate(seen.begin(), seen.end(), size_t{0});
    EXPECT_TRUE(plan.microbatches.size() % workers == 0 || plan.microbatches.size() == present);
  }
}

TEST(PackingTest, SharingGroupsAreSeldomCutAndWorkersEndTogether) {
  std::vector<SharedLength> lengths;
  int64_t whole = 0;
  for (int64_t group = 0; group < 16; ++group) {
    whole += 200;
    for (int64_t i = 0; i < 8; ++i) {
      lengths.push_back({200 + 10 + (7 * i + 3 * group) % 90, group, 200});
      whole += lengths.back().tokens - 200;
    }
  }
  const PackPlan plan = PackSharing(lengths, 2048, 2);
  EXPECT_LE(plan.tokens, whole + static_cast<int64_t>(plan.microbatches.size() - 1) * 200);
  EXPECT_GE(plan.tokens, whole);
  int64_t loads[2] = {0, 0};
  for (int w = 0; w < 2; ++w) {
    for (int32_t m : plan.workers[w]) loads[w] += SharedLoad(plan.microbatches[m], lengths);
  }
  EXPECT_LT(std::abs(loads[0] - loads[1]), plan.tokens / 20);
  // One group for two workers is cut, and so are equal ones that do not come out even.
  EXPECT_EQ(PackSharing({{9, 0, 4}, {9, 0, 4}, {9, 0, 4}}, 100, 2).microbatches.size(), 2u);
  const PackPlan even = PackSharing(std::vector<SharedLength>(6, {10, 0, 1}), 30, 2);
  EXPECT_EQ(even.microbatches.size(), 2u);
  EXPECT_EQ(PackSharing(std::vector<SharedLength>(6, {10, 0, 1}), 20, 4).microbatches.size(), 4u);
}

TEST(PackingTest, NothingToPackGivesNoMicrobatches) {
  EXPECT_TRUE(PackSharing({}, 16, 2).microbatches.empty());
  EXPECT_TRUE(PackSharing({{0, 0, 0}}, 16, 2).microbatches.empty());
  EXPECT_TRUE(PackSequences({}, 16, 2).microbatches.empty());
  EXPECT_TRUE(PackSequences({0, 0}, 16, 2).microbatches.empty());
  EXPECT_EQ(PackSequences({5}, 16, 4).microbatches.size(), 1u);
}

}  // namespace
}  // namespace tramontane
