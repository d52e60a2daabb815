#include "generator/core/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace tramontane {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnce) {
  BlockPool pool(5);
  std::map<int32_t, int> seen;
  while (pool.free() > 0) ++seen[pool.Take()];
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_EQ(seen.begin()->first, 0);
  EXPECT_EQ(seen.rbegin()->first, 4);
  EXPECT_EQ(pool.used(), 5);
}

TEST(BlockPool, KeepsASharedBlockUntilItsLastHolderReleasesIt) {
  BlockPool pool(2);
  const int32_t block = pool.Take();
  pool.Share(block);
  EXPECT_TRUE(pool.shared(block));
  pool.Release(block);
  EXPECT_FALSE(pool.shared(block));
  EXPECT_EQ(pool.used(), 1);
  pool.Release(block);
  EXPECT_EQ(pool.used(), 0);
}

TEST(BlockPool, ConservesBlocksUnderRandomUse) {
  std::mt19937 random(7);
  BlockPool pool(32);
  std::vector<int32_t> held;  // one entry per reference
  for (int step = 0; step < 20000; ++step) {
    const uint32_t choice = random() % 3;
    if (choice == 0 && pool.free() > 0) {
      held.push_back(pool.Take());
    } else if (choice == 1 && !held.empty()) {
      held.push_back(held[random() % held.size()]);
      pool.Share(held.back());
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      pool.Release(held.back());
      held.pop_back();
    }
    std::map<int32_t, int> counts;
    for (int32_t block : held) ++counts[block];
    ASSERT_EQ(pool.used(), static_cast<int32_t>(counts.size()));
    ASSERT_EQ(pool.used() + pool.free(), pool.total());
    for (const auto& [block, count] : counts) ASSERT_EQ(pool.shared(block), count > 1);
  }
}

}  // namespace
}  // namespace tramontane
