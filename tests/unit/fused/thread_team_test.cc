#include "model/fused/thread_team.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace tramontane {
namespace {

TEST(ThreadTeam, RunsEveryChunkOnceInEveryStage) {
  ThreadTeam team(2);
  std::vector<int> seen(100);
  for (int stage = 0; stage < 20000; ++stage) {
    const int chunks = 1 + stage % 100;
    team.For(chunks, [&](int chunk, int member) {
      ASSERT_LT(member, team.members());
      seen[chunk] += 1;  // a chunk is one thread's
    });
    if (stage % 1000 != 999) continue;
    const int sum = std::accumulate(seen.begin(), seen.end(), 0);
    ASSERT_EQ(sum, 10 * 5050) << stage;
    seen.assign(seen.size(), 0);
  }
}

TEST(ThreadTeam, WhatAStageWroteIsSeenByTheNext) {
  ThreadTeam team(2);
  std::vector<int64_t> values(64, 0), next(64, 0);
  for (int stage = 1; stage <= 2000; ++stage) {
    team.For(64, [&](int chunk, int) { next[chunk] = values[(chunk + 17) % 64] + 1; });
    std::swap(values, next);
    if (stage % 500 == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(3));  // helpers sleep
  }
  for (const int64_t value : values) ASSERT_EQ(value, 2000);
}

TEST(ThreadTeam, HelpersTakePartWhenTheCallerIsHeldUp) {
  ThreadTeam team(2);
  if (team.members() < 2) GTEST_SKIP() << "one CPU";
  std::atomic<int> by_helpers{0};
  // The caller's chunk ends only when a helper has done one: with no helper this would not end.
  team.For(2, [&](int, int member) {
    if (member > 0) {
      by_helpers = 1;
    } else {
      const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
      while (by_helpers == 0 && std::chrono::steady_clock::now() < patience) sched_yield();
    }
  });
  EXPECT_EQ(by_helpers, 1);
}

TEST(ThreadTeam, HasAtMostOneMemberForEachCpu) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(ThreadTeam(1000).members(), CPU_COUNT(&set));
  EXPECT_EQ(ThreadTeam(1).members(), 1);
  EXPECT_EQ(ThreadTeam(0).members(), 1);
}

}  // namespace
}  // namespace tramontane
