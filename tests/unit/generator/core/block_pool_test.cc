#include "generator/core/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
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

TEST(BlockPool, TakesKeptBlocksLastAndTheOldestOfThemFirst) {
  BlockPool pool(4);
  for (int i = 0; i < 4; ++i) pool.Take();
  for (const int32_t block : {2, 0, 3}) pool.Release(block, /*keep=*/true);
  pool.Release(1);
  EXPECT_EQ(pool.free(), 4);
  EXPECT_EQ(pool.kept(), 3);
  pool.Share(0);  // somebody wants its content again
  EXPECT_EQ(pool.used(), 1);
  EXPECT_EQ(pool.Take(), 1);  // empty
  EXPECT_EQ(pool.Take(), 2);
  EXPECT_EQ(pool.Take(), 3);
  EXPECT_EQ(pool.free(), 0);
  pool.Release(0, /*keep=*/true);
  pool.Empty(0);
  pool.Empty(1);  // in use: nothing happens
  EXPECT_EQ(pool.kept(), 0);
  EXPECT_EQ(pool.free(), 1);
}

TEST(BlockPool, ConservesBlocksUnderRandomUse) {
  std::mt19937 random(7);
  BlockPool pool(32);
  std::vector<int32_t> held;  // one entry per reference
  std::set<int32_t> kept;
  for (int step = 0; step < 20000; ++step) {
    const uint32_t choice = random() % 3;
    if (choice == 0 && pool.free() > 0) {
      held.push_back(pool.Take());
      kept.erase(held.back());
    } else if (choice == 1 && random() % 8 == 0) {
      const auto block = static_cast<int32_t>(random() % 32);
      if (kept.erase(block) > 0) {
        if (random() % 2 == 0) {
          pool.Empty(block);
        } else {
          pool.Share(block);
          held.push_back(block);
        }
      }
    } else if (choice == 1 && !held.empty()) {
      held.push_back(held[random() % held.size()]);
      pool.Share(held.back());
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      const bool keep = random() % 2 == 0;
      pool.Release(held.back(), keep);
      const int32_t block = held.back();
      held.pop_back();
      if (keep && std::ranges::find(held, block) == held.end()) kept.insert(block);
    }
    std::map<int32_t, int> counts;
    for (int32_t block : held) ++counts[block];
    ASSERT_EQ(pool.kept(), static_cast<int32_t>(kept.size()));
    ASSERT_EQ(pool.used(), static_cast<int32_t>(counts.size()));
    ASSERT_EQ(pool.used() + pool.free(), pool.total());
    for (const auto& [block, count] : counts) ASSERT_EQ(pool.shared(block), count > 1);
  }
}

}  // namespace
}  // namespace tramontane
