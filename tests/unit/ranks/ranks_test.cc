// Collectives over both transports: what they compute, and how they end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>

#include "common/clock.h"
#include "rank_threads.h"

namespace tramontane {
namespace {

using testing::RanksOf;
using testing::WithMortalRanks;
using testing::WithRanks;
using ::testing::HasSubstr;

class RanksTest : public ::testing::TestWithParam<bool> {
 protected:
  bool shared_memory() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Transports, RanksTest, ::testing::Bool(), [](const auto& info) {
  return info.param ? "SharedMemory" : "Tcp";
});

template <class T>
std::vector<T> Numbers(size_t count, int rank) {
  std::mt19937 rng(static_cast<uint32_t>(rank * 1000003 + count));
  std::uniform_real_distribution<T> value(-1, 1);
  std::vector<T> numbers(count);
  for (T& n : numbers) n = value(rng);
  return numbers;
}

// Added in the order of ranks, as it is promised.
template <class T>
std::vector<T> SumInOrder(size_t count, int ranks) {
  std::vector<T> sum = Numbers<T>(count, 0);
  for (int r = 1; r < ranks; ++r) {
    const std::vector<T> other = Numbers<T>(count, r);
    for (size_t i = 0; i < count; ++i) sum[i] += other[i];
  }
  return sum;
}

template <class T>
void CheckSums(bool shared_memory) {
  for (const int ranks : {2, 4}) {
    WithRanks(RanksOf(ranks, shared_memory), [&](RankGroup& group) {
      for (const size_t count : {0, 1, 15, 17, 4096, 300001}) {
        std::vector<T> data = Numbers<T>(count, group.rank());
        const absl::Status status = group.AllReduceSum(data);
        ASSERT_TRUE(status.ok()) << status;
        const std::vector<T> expected = SumInOrder<T>(count, ranks);
        EXPECT_TRUE(count == 0 ||
                    std::memcmp(data.data(), expected.data(), count * sizeof(T)) == 0)
            << "rank " << group.rank() << " of " << ranks << ", " << count << " numbers";
      }
    });
  }
}

TEST_P(RanksTest, SumsAreTheSameBitsOnEveryRankAddedInTheOrderOfRanks) {
  CheckSums<float>(shared_memory());
  CheckSums<double>(shared_memory());
}

TEST_P(RanksTest, EachRankCanSumItsShardAlone) {
  WithRanks(RanksOf(3, shared_memory()), [](RankGroup& group) {
    // Uneven, one of them empty, longer than what fits into one round.
    const std::vector<Range> shards = {{0, 900000}, {900000, 900000}, {900000, 900100}};
    std::vector<float> data = Numbers<float>(900100, group.rank());
    ASSERT_TRUE(group.ReduceScatterSum(data, shards).ok());
    const std::vector<float> expected = SumInOrder<float>(900100, 3);
    const Range mine = shards[group.rank()];
    EXPECT_EQ(std::memcmp(&data[mine.begin], &expected[mine.begin], mine.size() * sizeof(float)), 0);
  });
}

TEST_P(RanksTest, EverybodyGetsEveryShard) {
  WithRanks(RanksOf(3, shared_memory()), [](RankGroup& group) {
    const std::vector<Range> shards = {{0, 5}, {5, 5}, {5, 3000005}};
    std::string data(3000005, '?');
    const Range mine = shards[group.rank()];
    for (size_t i = mine.begin; i < mine.end; ++i) data[i] = static_cast<char>(i % 251);
    ASSERT_TRUE(group.AllGather(data.data(), shards).ok());
    for (size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], static_cast<char>(i % 251)) << i;
    EXPECT_EQ(group.traffic().bytes_moved, 2.0 * static_cast<double>(mine.size()));
  });
}

TEST_P(RanksTest, RankZeroIsHeardByAll) {
  WithRanks(RanksOf(4, shared_memory()), [](RankGroup& group) {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{2500000}}) {
      std::string bytes = group.rank() == 0 ? std::string(size, 'x') : "mine";
      ASSERT_TRUE(group.Broadcast(bytes).ok());
      EXPECT_EQ(bytes, std::string(size, 'x'));
    }
  });
}

TEST_P(RanksTest, TheFirstErrorOfAnyRankIsEverybodys) {
  WithRanks(RanksOf(3, shared_memory()), [](RankGroup& group) {
    EXPECT_TRUE(group.Agree(absl::OkStatus()).ok());
    const absl::Status mine = group.rank() == 0
                                  ? absl::OkStatus()
                                  : absl::ResourceExhaustedError(
                                        "no room here, " + std::to_string(group.rank()) +
                                        std::string(2000, '.'));
    const absl::Status agreed = group.Agree(mine);
    EXPECT_EQ(agreed.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(agreed.message()), HasSubstr("rank 1: no room here, 1"));
    EXPECT_TRUE(group.Agree(absl::OkStatus()).ok()) << "an error ends nothing";
  });
}

TEST_P(RanksTest, ARankThatGivesUpTellsTheOthersWhy) {
  WithRanks(RanksOf(3, shared_memory()), [](RankGroup& group) {
    std::vector<double> data(100);
    if (group.rank() == 1) {
      group.Abort("the moon is full");
      EXPECT_FALSE(group.AllReduceSum(data).ok());
      return;
    }
    const absl::Status status = group.AllReduceSum(data);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 has given up: the moon is full"));
    EXPECT_FALSE(group.AllReduceSum(data).ok()) << "the group is over";
    EXPECT_FALSE(group.Health().ok());
  });
}

TEST_P(RanksTest, ARankThatIsGoneEndsTheWaitOfTheOthersAtOnce) {
  WithMortalRanks(RanksOf(3, shared_memory()), [](std::unique_ptr<RankGroup> group) {
    if (group->rank() == 2) return;  // its end says nothing, like that of a killed process
    const auto start = std::chrono::steady_clock::now();
    std::vector<double> data(100);
    const absl::Status status = group->AllReduceSum(data);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 is gone"));
    EXPECT_LT(SecondsSince(start), 10) << "the time-out is 60 s";
  });
}

TEST_P(RanksTest, ASilentRankEndsTheGroupAfterTheTimeout) {
  std::atomic<int> ended = 0;
  WithMortalRanks(RanksOf(3, shared_memory(), /*timeout_s=*/0.3), [&](std::unique_ptr<RankGroup> group) {
    if (group->rank() == 2) {
      while (ended < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    std::vector<double> data(100);
    const absl::Status status = group->AllReduceSum(data);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("silent"));
    ++ended;
  });
}

TEST_P(RanksTest, BetweenStepsRanksWaitForAsLongAsItTakes) {
  std::atomic<int> heard = 0;
  WithMortalRanks(RanksOf(3, shared_memory(), /*timeout_s=*/0.1),
                  [&](std::unique_ptr<RankGroup> group) {
                    std::string bytes = "go";
                    if (group->rank() == 0)
                      std::this_thread::sleep_for(std::chrono::milliseconds(600));
                    const absl::Status status = group->Broadcast(bytes, /*patient=*/true);
                    EXPECT_TRUE(status.ok()) << status;
                    ++heard;
                    if (group->rank() == 0) {
                      while (heard < 3) std::this_thread::sleep_for(std::chrono::milliseconds(5));
                      return;
                    }
                    EXPECT_EQ(bytes, "go");
                    // Rank 0 has ended in order.
                    EXPECT_TRUE(absl::IsCancelled(group->Broadcast(bytes, /*patient=*/true)));
                  });
}

TEST(ShardsTest, CoverEverythingOnceInOrder) {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{31}, size_t{1000}, size_t{1234567}}) {
    for (const int ranks : {1, 2, 3, 7}) {
      size_t end = 0;
      for (int r = 0; r < ranks; ++r) {
        const Range shard = ShardOf(count, r, ranks);
        EXPECT_EQ(shard.begin, end);
        EXPECT_LE(shard.begin, shard.end);
        EXPECT_EQ(shard.begin % 16, 0u);
        end = shard.end;
      }
      EXPECT_EQ(end, count);
    }
  }
}

}  // namespace
}  // namespace tramontane
