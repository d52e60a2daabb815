#include "generator/core/route_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/rollout.h"

namespace tramontane {
namespace {

constexpr int32_t kBytes = 3;

// Routes of a token are a function of it and its position alone, as a model's are of the prefix.
uint8_t Byte(int32_t token, int32_t position, int32_t i) {
  return static_cast<uint8_t>((token * 7 + position * 3 + i) % 200);
}

std::vector<uint8_t> RoutesOf(const StepPlan& plan) {
  std::vector<uint8_t> routes;
  for (const StepItem& item : plan.items) {
    for (int32_t p = item.start; p < item.start + item.count; ++p) {
      for (int32_t i = 0; i < kBytes; ++i) routes.push_back(Byte(item.sequence->tokens[p], p, i));
    }
  }
  return routes;
}

void ExpectRoutes(const RouteCache& cache, const Sequence& sequence, int32_t tokens) {
  const std::vector<uint8_t> read = cache.Read(sequence, tokens);
  ASSERT_EQ(read.size(), static_cast<size_t>(tokens * kBytes));
  for (int32_t p = 0; p < tokens; ++p) {
    for (int32_t i = 0; i < kBytes; ++i) {
      const uint8_t expected = p < sequence.cached ? Byte(sequence.tokens[p], p, i) : kNoRoute;
      ASSERT_EQ(read[p * kBytes + i], expected) << p;
    }
  }
}

// Siblings, prefix cache, chunks, copied blocks and preemption all in one crowded run.
TEST(RouteCache, HoldsWhatWasComputedForEverySequenceWhoeverComputedIt) {
  const SchedulerOptions options{
      .max_running_sequences = 6, .block_tokens = 4, .total_blocks = 24, .prefill_chunk_tokens = 7};
  Scheduler scheduler(options);
  RouteCache cache(kBytes, options.total_blocks, options.block_tokens);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (int32_t i = 0; i < 12; ++i) {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = static_cast<uint64_t>(i);
    sequence->request = static_cast<uint64_t>(i / 3);
    sequence->prompt_size = 10 + i / 6;
    for (int32_t t = 0; t < sequence->prompt_size; ++t) sequence->tokens.push_back(t);
    scheduler.Add(*sequence);
    sequences.push_back(std::move(sequence));
  }
  int32_t finished = 0;
  for (int32_t step = 0; step < 1000 && scheduler.running() + scheduler.waiting() > 0; ++step) {
    const StepPlan& plan = scheduler.Plan();
    cache.Record(plan, RoutesOf(plan));
    const std::vector<StepItem> items = plan.items;
    scheduler.Complete();
    for (const StepItem& item : items) {
      Sequence& sequence = *item.sequence;
      if (!item.samples) continue;
      sequence.tokens.push_back(static_cast<int32_t>(sequence.id) + sequence.size());
      if (sequence.size() < 30) continue;
      EXPECT_EQ(sequence.cached, sequence.size() - 1);
      ExpectRoutes(cache, sequence, sequence.size() - 1);
      scheduler.Remove(sequence);
      ++finished;
    }
  }
  EXPECT_EQ(finished, 12);
  EXPECT_GT(scheduler.preemptions(), 0u);
  EXPECT_GT(scheduler.sibling_hit_tokens(), 0u);
  EXPECT_GT(scheduler.cache_hit_tokens(), 0u);
}

TEST(RouteCache, SaysOfTokensThatAreNotInTheCacheThatNobodyNotedThem) {
  RouteCache cache(kBytes, 8, 4);
  Sequence sequence;
  sequence.tokens = {5, 6, 7};
  ExpectRoutes(cache, sequence, 2);
  EXPECT_TRUE(cache.Read(sequence, -1).empty());
  const RouteCache dense(0, 8, 4);
  EXPECT_TRUE(dense.Read(sequence, 2).empty());
}

}  // namespace
}  // namespace tramontane
