// Who may join, who may not, and what is said of those that do not come.
#include "trainer/ranks/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "common/clock.h"
#include "common/rollout.h"
#include "rank_threads.h"
#include "trainer/ranks/control_links.h"
#include "trainer/ranks/trainer_ranks.h"

namespace tramontane {
namespace {

using testing::RanksOf;
using ::testing::HasSubstr;

const auto kPossible = [] { return absl::OkStatus(); };

TEST(RendezvousTest, WhoDoesNotComeIsNamedWhenTheTimeIsOver) {
  auto host = RankHost::Listen("127.0.0.1:0", "token").value();
  RankOptions options = RanksOf(4, true);
  options.join_timeout_s = 0.6;
  std::jthread one([&] { (void)JoinRanks(host.address(), 2, "token", 5); });
  const absl::Status status = host.Await(options, kPossible).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1, 3 of 4 did not join"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank_join_timeout_s"));
}

TEST(RendezvousTest, TheWaitEndsWhenNobodyCanComeAnyMore) {
  auto host = RankHost::Listen("127.0.0.1:0", "token").value();
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = host.Await(RanksOf(2, true), [] {
                                    return absl::UnavailableError("rank 1 ended by signal 9");
                                  }).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("signal 9"));
  EXPECT_LT(SecondsSince(start), 10);
}

TEST(RendezvousTest, StrangersAndDoublesAreTurnedAwayAndDisturbNobody) {
  std::latch all_done(3);
  auto host = RankHost::Listen("127.0.0.1:0", "token").value();
  const auto refused = [&](int rank, const std::string& token, const std::string& why) {
    const absl::Status status = JoinRanks(host.address(), rank, token, 20).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  };
  std::jthread others([&] {
    refused(1, "guess", "token");
    refused(7, "token", "no rank 7");
    // Bytes that mean nothing, and a connection that says nothing at all and goes.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    UniqueFd stranger = ConnectTcp(host.address(), deadline).value();
    ASSERT_TRUE(SendFrame(stranger.get(), "GET / HTTP/1.1", deadline).ok());
    stranger.Reset();
    std::jthread first([&] {
      auto group = JoinRanks(host.address(), 1, "token", 20);
      ASSERT_TRUE(group.ok()) << group.status();
      std::vector<double> sum = {1};
      EXPECT_TRUE((*group)->AllReduceSum(sum).ok());
      all_done.arrive_and_wait();
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    refused(1, "token", "here already");
    auto group = JoinRanks(host.address(), 2, "token", 20);
    ASSERT_TRUE(group.ok()) << group.status();
    std::vector<double> sum = {1};
    EXPECT_TRUE((*group)->AllReduceSum(sum).ok());
    all_done.arrive_and_wait();
  });
  auto group = host.Await(RanksOf(3, false), kPossible);
  ASSERT_TRUE(group.ok()) << group.status();
  std::vector<double> sum = {1};
  ASSERT_TRUE((*group)->AllReduceSum(sum).ok());
  EXPECT_EQ(sum[0], 3);
  all_done.arrive_and_wait();
}

TEST(RendezvousTest, TheGroupBeginsWhenTheMemoryIsMappedEverywhere) {
  auto host = RankHost::Listen("127.0.0.1:0", "token").value();
  std::atomic<bool> begun = false;
  absl::Status status;
  std::jthread rank_zero([&] {
    status = host.Await(RanksOf(2, true), kPossible).status();
    begun = true;
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const UniqueFd rank_one = ConnectTcp(host.address(), deadline).value();
  const Json hello = {{"format", 2}, {"token", "token"}, {"rank", 1}, {"data_address", ""}};
  ASSERT_TRUE(SendFrame(rank_one.get(), hello.dump(), deadline).ok());
  const Json welcome = Json::parse(ReceiveFrame(rank_one.get(), deadline).value());
  EXPECT_THAT(welcome.at("memory").get<std::string>(), HasSubstr("/proc/"));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_FALSE(begun) << "rank 0 could end, and its memory with it";
  ASSERT_TRUE(SendFrame(rank_one.get(), Json{{"failed", "another host"}}.dump(), deadline).ok());
  rank_zero.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1: another host"));
}

TEST(RendezvousTest, ARankGivesUpWhenNobodyListens) {
  std::string address;
  { address = RankHost::Listen("127.0.0.1:0", "").value().address(); }
  const absl::Status status = JoinRanks(address, 1, "", 0.5).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address));
}

TEST(RendezvousTest, AnAddressInUseIsNamedWithItsField) {
  const auto host = RankHost::Listen("127.0.0.1:0", "").value();
  TrainerSection trainer;
  trainer.ranks = 2;
  trainer.rank_bind = host.address();
  const absl::Status status = TrainerRanks::Start(trainer).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("trainer.rank_bind"));
}

TEST(RendezvousTest, OneRankNeedsNoGroup) {
  const auto alone = TrainerRanks::Start(TrainerSection{}).value();
  EXPECT_EQ(alone.group(), nullptr);
  EXPECT_FALSE(alone.lost());
}

}  // namespace
}  // namespace tramontane
