// Ranks as threads of one process: they meet by the real rendezvous and talk by the real
// transports.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "trainer/ranks/rendezvous.h"

namespace tramontane::testing {

inline RankOptions RanksOf(int size, bool shared_memory, double timeout_s = 60) {
  return {
      .size = size, .shared_memory = shared_memory, .join_timeout_s = 30, .timeout_s = timeout_s};
}

// Calls on_rank(group) on a thread for every rank, which may end its group when it likes.
inline void WithMortalRanks(const RankOptions& options,
                            const std::function<void(std::unique_ptr<RankGroup>)>& on_rank) {
  auto host = RankHost::Listen("127.0.0.1:0", "token");
  ASSERT_TRUE(host.ok()) << host.status();
  std::vector<std::jthread> threads;
  for (int rank = 1; rank < options.size; ++rank) {
    threads.emplace_back([&, rank] {
      auto group = JoinRanks(host->address(), rank, "token", 30);
      ASSERT_TRUE(group.ok()) << group.status();
      on_rank(*std::move(group));
    });
  }
  auto group = host->Await(options, [] { return absl::OkStatus(); });
  ASSERT_TRUE(group.ok()) << group.status();
  on_rank(*std::move(group));
}

// The same; no group ends before all calls have: who leaves early may be missed by one that is
// still at the last collective.
inline void WithRanks(const RankOptions& options, const std::function<void(RankGroup&)>& on_rank) {
  std::latch all_done(options.size);
  WithMortalRanks(options, [&](std::unique_ptr<RankGroup> group) {
    on_rank(*group);
    all_done.arrive_and_wait();
  });
}

}  // namespace tramontane::testing
