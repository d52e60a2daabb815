#include "generator/core/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace tramontane {
namespace {

using Tokens = std::vector<int32_t>;

TEST(PrefixCache, FindsABlockBehindItsOwnBeginningAlone) {
  PrefixCache cache(8);
  const uint64_t first = cache.Insert(cache.root(), Tokens{1, 2}, 3);
  const uint64_t second = cache.Insert(first, Tokens{3, 4}, 5);
  EXPECT_EQ(cache.Find(cache.root(), Tokens{1, 2}).block, 3);
  EXPECT_EQ(cache.Find(first, Tokens{3, 4}).block, 5);
  EXPECT_EQ(cache.Find(first, Tokens{3, 4}).id, second);
  EXPECT_EQ(cache.Find(cache.root(), Tokens{3, 4}).id, 0u);
  EXPECT_EQ(cache.Find(second, Tokens{3, 4}).id, 0u);
  EXPECT_EQ(cache.Find(first, Tokens{3, 5}).id, 0u);
}

TEST(PrefixCache, TheFirstBlockWithAContentIsTheOne) {
  PrefixCache cache(8);
  const uint64_t id = cache.Insert(cache.root(), Tokens{1, 2}, 3);
  EXPECT_EQ(cache.Insert(cache.root(), Tokens{1, 2}, 4), id);
  EXPECT_TRUE(cache.Holds(3));
  EXPECT_FALSE(cache.Holds(4));
}

TEST(PrefixCache, WhatFollowedAForgottenBlockIsNotFoundBehindItsSuccessor) {
  PrefixCache cache(8);
  const uint64_t first = cache.Insert(cache.root(), Tokens{1, 2}, 3);
  cache.Insert(first, Tokens{3, 4}, 5);
  cache.Forget(3);
  EXPECT_EQ(cache.Find(cache.root(), Tokens{1, 2}).id, 0u);
  const uint64_t again = cache.Insert(cache.root(), Tokens{1, 2}, 6);
  EXPECT_NE(again, first);
  EXPECT_EQ(cache.Find(again, Tokens{3, 4}).id, 0u);
}

TEST(PrefixCache, OtherWeightsFindNothing) {
  PrefixCache cache(8);
  const uint64_t old_root = cache.root();
  cache.Insert(old_root, Tokens{1, 2}, 3);
  cache.Clear();
  EXPECT_NE(cache.root(), old_root);
  EXPECT_EQ(cache.Find(cache.root(), Tokens{1, 2}).id, 0u);
  EXPECT_EQ(cache.Find(old_root, Tokens{1, 2}).id, 0u);
  EXPECT_FALSE(cache.Holds(3));
  EXPECT_EQ(cache.size(), 0);
}

TEST(PrefixCache, AgreesWithAMapUnderRandomUse) {
  std::mt19937 random(3);
  PrefixCache cache(16);
  std::map<std::pair<uint64_t, Tokens>, PrefixCache::Entry> expected;
  std::vector<uint64_t> parents = {cache.root()};
  for (int step = 0; step < 20000; ++step) {
    const uint64_t parent = parents[random() % parents.size()];
    const Tokens tokens = {static_cast<int32_t>(random() % 3), static_cast<int32_t>(random() % 2)};
    const auto block = static_cast<int32_t>(random() % 16);
    const auto known = expected.find({parent, tokens});
    const PrefixCache::Entry found = cache.Find(parent, tokens);
    ASSERT_EQ(found.id, known == expected.end() ? 0 : known->second.id);
    if (found.id != 0) {
      ASSERT_EQ(found.block, known->second.block);
    }
    if (random() % 2 == 0 && !cache.Holds(block)) {
      const uint64_t id = cache.Insert(parent, tokens, block);
      if (known == expected.end()) expected[{parent, tokens}] = {id, block};
      parents.push_back(id);
    } else {
      std::erase_if(expected, [&](const auto& entry) { return entry.second.block == block; });
      cache.Forget(block);
    }
    if (parents.size() > 40) {
      cache.Clear();
      expected.clear();
      parents = {cache.root()};
    }
    ASSERT_EQ(cache.size(), static_cast<int32_t>(expected.size()));
  }
}

}  // namespace
}  // namespace tramontane
