#include "trainer/learner/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>

namespace tramontane {
namespace {

TEST(WorkerPoolTest, EveryWorkerRunsEveryJobOnceOnItsOwnThread) {
  for (int size : {1, 2, 5}) {
    std::atomic<int> started = 0;
    WorkerPool pool(size, [&] { ++started; });
    std::vector<std::thread::id> first(size), last(size);
    std::vector<int> runs(size, 0);
    for (int round = 0; round < 200; ++round) {
      pool.Run([&](int worker) {
        ++runs[worker];
        (round == 0 ? first : last)[worker] = std::this_thread::get_id();
      });
    }
    EXPECT_EQ(runs, std::vector<int>(size, 200));
    EXPECT_EQ(first, last);
    EXPECT_EQ(std::set<std::thread::id>(first.begin(), first.end()).size(), static_cast<size_t>(size));
    EXPECT_EQ(first[0], std::this_thread::get_id());
    EXPECT_EQ(started, size - 1);
  }
}

}  // namespace
}  // namespace tramontane
