// Learners of several ranks, each on a thread of its own, which do what rank 0 says as
// ServeRank does, and whose weights can be looked at.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "learner_fixture.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/rank_command.h"
#include "trainer/learner/rank_worker.h"
#include "trainer/ranks/rendezvous.h"

namespace tramontane::testing {

// A configuration that may travel: it is validated where it arrives.
inline RunConfig RankRun(int ranks, int zero) {
  RunConfig config = TinyRun();
  config.model.path = "none";
  config.data.train = "none";
  config.verifiers["math"].builtin = "math";
  config.trainer.microbatch_tokens = 16;
  config.trainer.ranks = ranks;
  config.trainer.zero = ranks > 1 ? zero : 0;
  return config;
}

// Calls lead(group) as rank 0 (null for one rank) while the others serve; `serve` is ServeRank
// unless a test wants to look closer.
inline void WithServingRanks(
    int ranks, bool shared_memory, const std::function<void(RankGroup*)>& lead,
    const std::function<void(RankGroup&)>& serve = [](RankGroup& group) {
      const absl::Status status = ServeRank(group);
      EXPECT_TRUE(status.ok()) << status;
    }) {
  if (ranks == 1) return lead(nullptr);
  auto host = RankHost::Listen("127.0.0.1:0", "token");
  ASSERT_TRUE(host.ok()) << host.status();
  std::vector<std::jthread> threads;
  for (int rank = 1; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      auto group = JoinRanks(host->address(), rank, "token", 30);
      ASSERT_TRUE(group.ok()) << group.status();
      serve(**group);
    });
  }
  auto group =
      host->Await({.size = ranks, .shared_memory = shared_memory}, [] { return absl::OkStatus(); });
  ASSERT_TRUE(group.ok()) << group.status();
  lead(group->get());
}

}  // namespace tramontane::testing
