// Every function of the queue against a real Redis, one behaviour a test.
#include "queue/work_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <thread>
#include <tuple>

#include "common/clock.h"
#include "queue/redis.h"
#include "tests/support/redis_server.h"

namespace tramontane {
namespace {

using testing::ElementsAre;

std::string Gid(int i) { return std::string(31, '0') + static_cast<char>('a' + i); }
std::string Blob(int i) { return std::string(63, 'f') + static_cast<char>('a' + i); }

class WorkQueueTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = RedisServer::Start().value().release(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  void SetUp() override {
    run_id_ = testing::UnitTest::GetInstance()->current_test_info()->name();
    trainer_ = Connect();
    epoch_ = trainer_->Fence().value();
  }

  std::unique_ptr<WorkQueue> Connect() {
    return WorkQueue::Connect(server_->config(), run_id_).value();
  }
  AdmitResult Admit(int i, Purpose purpose = Purpose::kTrain, int64_t high_water = 100) {
    return trainer_->Admit(Gid(i), Blob(i), purpose, epoch_, high_water).value();
  }
  std::string Key(const std::string& name) { return "{tramontane:" + run_id_ + "}:" + name; }
  RedisReply Raw(const std::vector<std::string>& argv) {
    return RedisConnection::Create(server_->config().url, 1).value()->Command(argv).value();
  }
  static std::vector<std::string> GidsOf(const std::vector<CompletedGroup>& groups) {
    std::vector<std::string> out;
    for (const CompletedGroup& group : groups) out.push_back(group.gid);
    return out;
  }

  static RedisServer* server_;
  std::string run_id_;
  std::unique_ptr<WorkQueue> trainer_;
  int64_t epoch_ = 0;
};

RedisServer* WorkQueueTest::server_ = nullptr;

TEST_F(WorkQueueTest, AGroupTravelsFromAdmissionToRetirement) {
  EXPECT_EQ(Admit(0), AdmitResult::kAdmitted);
  auto generator = Connect();
  const Lease lease = generator->Claim("g", 0).value().value();
  EXPECT_EQ(lease.gid, Gid(0));
  EXPECT_EQ(lease.blob, Blob(0));
  EXPECT_EQ(lease.delivery, 1);
  ASSERT_TRUE(generator->Complete(lease, Blob(1)).ok());
  const std::vector<CompletedGroup> done = trainer_->TakeCompleted(10, 0).value();
  ASSERT_THAT(GidsOf(done), ElementsAre(Gid(0)));
  EXPECT_EQ(done[0].blob, Blob(1));
  ASSERT_TRUE(trainer_->Retire({Gid(0)}, Terminal::kTrained, epoch_).ok());
  const QueueStats stats = trainer_->Stats().value();
  EXPECT_EQ(stats.waiting + stats.leased + stats.completed + stats.dead, 0);
  EXPECT_EQ(Raw({"XLEN", Key("train")}).integer, 0);
  EXPECT_EQ(Raw({"XLEN", Key("completed")}).integer, 0);
}

TEST_F(WorkQueueTest, AdmissionIsIdempotentInEveryState) {
  EXPECT_EQ(Admit(0), AdmitResult::kAdmitted);
  EXPECT_EQ(Admit(0), AdmitResult::kKnown);
  auto generator = Connect();
  const Lease lease = generator->Claim("g", 0).value().value();
  EXPECT_EQ(Admit(0), AdmitResult::kKnown);
  ASSERT_TRUE(generator->Complete(lease, Blob(1)).ok());
  EXPECT_EQ(Admit(0), AdmitResult::kKnown);
  ASSERT_TRUE(trainer_->Retire({Gid(0)}, Terminal::kTrained, epoch_).ok());
  EXPECT_EQ(Admit(0), AdmitResult::kEnded);
  EXPECT_FALSE(generator->Claim("g", 0).value().has_value());
}

TEST_F(WorkQueueTest, AdmissionIsBusyAtTheHighWaterMarkAndClaimsMakeRoom) {
  EXPECT_EQ(Admit(0, Purpose::kTrain, 2), AdmitResult::kAdmitted);
  EXPECT_EQ(Admit(1, Purpose::kTrain, 2), AdmitResult::kAdmitted);
  EXPECT_EQ(Admit(2, Purpose::kTrain, 2), AdmitResult::kBusy);
  auto generator = Connect();
  ASSERT_TRUE(generator->Claim("g", 0).value().has_value());
  EXPECT_EQ(Admit(2, Purpose::kTrain, 2), AdmitResult::kAdmitted);
}

TEST_F(WorkQueueTest, EvaluationIsClaimedBeforeTraining) {
  Admit(0);
  Admit(1);
  Admit(2, Purpose::kEval);
  auto generator = Connect();
  EXPECT_EQ(generator->Claim("g", 0).value()->gid, Gid(2));
  EXPECT_EQ(generator->Claim("g", 0).value()->gid, Gid(0));
  EXPECT_EQ(generator->Claim("g", 0).value()->gid, Gid(1));
  EXPECT_FALSE(generator->Claim("g", 0).value().has_value());
}

TEST_F(WorkQueueTest, AClaimWakesWhenWorkArrives) {
  auto generator = Connect();
  std::jthread admitter([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    Admit(0);
  });
  const auto start = std::chrono::steady_clock::now();
  const std::optional<Lease> lease = generator->Claim("g", 5000).value();
  ASSERT_TRUE(lease.has_value());
  EXPECT_LT(SecondsSince(start), 3);
}

TEST_F(WorkQueueTest, AnEmptyQueueLetsTheClaimGoAtItsDeadline) {
  auto generator = Connect();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(generator->Claim("g", 200).value().has_value());
  EXPECT_GE(SecondsSince(start), 0.19);
}

TEST_F(WorkQueueTest, ALowerEpochIsFenced) {
  auto successor = Connect();
  const int64_t higher = successor->Fence(epoch_ + 5).value();
  EXPECT_GT(higher, epoch_ + 5);
  EXPECT_EQ(Admit(0), AdmitResult::kFenced);
  EXPECT_EQ(trainer_->Retire({Gid(0)}, Terminal::kTrained, epoch_).code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(successor->Admit(Gid(0), Blob(0), Purpose::kTrain, higher, 10).value(),
            AdmitResult::kAdmitted);
}

TEST_F(WorkQueueTest, AnExpiredLeaseIsDeliveredAgainAndTheOldHolderIsRefused) {
  Admit(0);
  auto slow = Connect();
  auto quick = Connect();
  const Lease old_lease = slow->Claim("slow", 0).value().value();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_EQ(trainer_->Reap(0.05, 3).value(), 1);
  const Lease new_lease = quick->Claim("quick", 0).value().value();
  EXPECT_EQ(new_lease.gid, Gid(0));
  EXPECT_EQ(new_lease.delivery, 2);
  EXPECT_EQ(slow->Renew(old_lease).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(slow->Complete(old_lease, Blob(1)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(slow->Release(old_lease).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(slow->Fail(old_lease, "late", 3).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(quick->Complete(new_lease, Blob(2)).ok());
  EXPECT_EQ(trainer_->TakeCompleted(10, 0).value().at(0).blob, Blob(2));
  EXPECT_EQ(trainer_->Stats().value().redelivered, 1);
}

TEST_F(WorkQueueTest, TheSameWorkerCannotUseTheLeaseItLost) {
  Admit(0);
  auto generator = Connect();
  const Lease old_lease = generator->Claim("g", 0).value().value();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  ASSERT_EQ(trainer_->Reap(0.02, 3).value(), 1);
  const Lease new_lease = generator->Claim("g", 0).value().value();
  EXPECT_FALSE(generator->Complete(old_lease, Blob(1)).ok());
  EXPECT_TRUE(generator->Complete(new_lease, Blob(1)).ok());
}

TEST_F(WorkQueueTest, RenewalKeepsALeaseAlive) {
  Admit(0);
  auto generator = Connect();
  const Lease lease = generator->Claim("g", 0).value().value();
  // Together longer than the lease, each far shorter: a renewal that is slow to reach the disk
  // counts.
  for (int i = 0; i < 4; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    ASSERT_TRUE(generator->Renew(lease).ok());
    EXPECT_EQ(trainer_->Reap(2, 3).value(), 0);
  }
  EXPECT_TRUE(generator->Complete(lease, Blob(1)).ok());
}

TEST_F(WorkQueueTest, TheThirdFailureGoesToTheDeadStreamWithItsReason) {
  Admit(0);
  auto generator = Connect();
  ASSERT_TRUE(generator->Fail(generator->Claim("g", 0).value().value(), "first", 3).ok());
  const Lease abandoned = generator->Claim("g", 0).value().value();
  EXPECT_EQ(abandoned.delivery, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  ASSERT_EQ(trainer_->Reap(0.02, 3).value(), 1);
  ASSERT_TRUE(
      generator->Fail(generator->Claim("g", 0).value().value(), "verifier unreachable", 3).ok());
  EXPECT_FALSE(generator->Claim("g", 0).value().has_value());
  const std::vector<DeadGroup> dead = trainer_->ListDead(10).value();
  ASSERT_EQ(dead.size(), 1u);
  EXPECT_EQ(dead[0].gid, Gid(0));
  EXPECT_EQ(dead[0].blob, Blob(0));
  EXPECT_EQ(dead[0].reason, "verifier unreachable");
  EXPECT_EQ(trainer_->Stats().value().dead, 1);
  ASSERT_TRUE(trainer_->Retire({Gid(0)}, Terminal::kDead, epoch_).ok());
  EXPECT_TRUE(trainer_->ListDead(10).value().empty());
}

TEST_F(WorkQueueTest, ReleaseIsNotAFailure) {
  Admit(0);
  auto generator = Connect();
  for (int i = 1; i <= 6; ++i) {
    const Lease lease = generator->Claim("g", 0).value().value();
    EXPECT_EQ(lease.delivery, i);
    ASSERT_TRUE(generator->Release(lease).ok());
  }
  EXPECT_TRUE(trainer_->ListDead(10).value().empty());
  EXPECT_EQ(trainer_->Stats().value().waiting, 1);
}

TEST_F(WorkQueueTest, CompletionIsIdempotentForTheSameDeliveryAndPayload) {
  Admit(0);
  auto generator = Connect();
  const Lease lease = generator->Claim("g", 0).value().value();
  ASSERT_TRUE(generator->Complete(lease, Blob(1)).ok());
  EXPECT_TRUE(generator->Complete(lease, Blob(1)).ok());
  EXPECT_FALSE(generator->Complete(lease, Blob(2)).ok());
  EXPECT_EQ(trainer_->TakeCompleted(10, 0).value().size(), 1u);
}

TEST_F(WorkQueueTest, CompletedGroupsComeOnceToAnObjectAndAgainToItsSuccessorUntilRetired) {
  auto generator = Connect();
  for (int i = 0; i < 3; ++i) {
    Admit(i);
    ASSERT_TRUE(generator->Complete(generator->Claim("g", 0).value().value(), Blob(i)).ok());
  }
  EXPECT_THAT(GidsOf(trainer_->TakeCompleted(2, 0).value()), ElementsAre(Gid(0), Gid(1)));
  EXPECT_THAT(GidsOf(trainer_->TakeCompleted(2, 0).value()), ElementsAre(Gid(2)));
  EXPECT_TRUE(trainer_->TakeCompleted(2, 20).value().empty());
  ASSERT_TRUE(trainer_->Retire({Gid(1)}, Terminal::kTrained, epoch_).ok());
  EXPECT_THAT(GidsOf(Connect()->TakeCompleted(10, 0).value()), ElementsAre(Gid(0), Gid(2)));
  trainer_->RewindCompleted();
  EXPECT_THAT(GidsOf(trainer_->TakeCompleted(10, 0).value()), ElementsAre(Gid(0), Gid(2)));
}

TEST_F(WorkQueueTest, RetirementTakesAGroupOutOfAnyState) {
  for (int i = 0; i < 4; ++i) Admit(i);
  auto generator = Connect();
  const Lease leased = generator->Claim("g", 0).value().value();
  ASSERT_TRUE(generator->Complete(generator->Claim("g", 0).value().value(), Blob(1)).ok());
  ASSERT_TRUE(generator->Fail(generator->Claim("g", 0).value().value(), "x", 1).ok());
  // Leased, completed, dead, waiting, and one that Redis never heard of.
  ASSERT_TRUE(
      trainer_->Retire({Gid(0), Gid(1), Gid(2), Gid(3), Gid(4)}, Terminal::kDropped, epoch_).ok());
  const QueueStats stats = trainer_->Stats().value();
  EXPECT_EQ(stats.waiting + stats.leased + stats.completed + stats.dead, 0);
  EXPECT_FALSE(generator->Complete(leased, Blob(1)).ok());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Admit(i), AdmitResult::kEnded);
  EXPECT_TRUE(trainer_->Retire({Gid(0)}, Terminal::kDropped, epoch_).ok());
}

TEST_F(WorkQueueTest, EndedGroupsAreForgottenOnlyFarInThePast) {
  std::vector<std::string> gids;
  for (int i = 0; i < 65536 + 100; ++i) gids.push_back("gid" + std::to_string(i));
  ASSERT_TRUE(trainer_->Retire(gids, Terminal::kTrained, epoch_).ok());
  EXPECT_EQ(Raw({"HLEN", Key("state")}).integer, 65536);
  EXPECT_EQ(trainer_->Admit("gid65000", Blob(0), Purpose::kTrain, epoch_, 10).value(),
            AdmitResult::kEnded);
}

TEST_F(WorkQueueTest, AnEntryDeletedWhileLeasedRaisesAnAlarmAndIsDeliveredAgain) {
  Admit(0);
  auto generator = Connect();
  const Lease lease = generator->Claim("g", 0).value().value();
  Raw({"XDEL", Key("train"), lease.entry_id});
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(trainer_->Reap(0.02, 3).value(), 1);
  EXPECT_EQ(trainer_->Stats().value().alarms.at("entry_lost"), 1);
  EXPECT_EQ(generator->Claim("g", 0).value()->gid, Gid(0));
}

TEST_F(WorkQueueTest, AnEntryDeletedWhileWaitingIsPutBackByTheNextAdmission) {
  Admit(0);
  Raw({"XTRIM", Key("train"), "MAXLEN", "0"});
  EXPECT_EQ(Admit(0), AdmitResult::kKnown);
  EXPECT_EQ(trainer_->Stats().value().alarms.at("entry_lost"), 1);
  auto generator = Connect();
  EXPECT_EQ(generator->Claim("g", 0).value()->gid, Gid(0));
}

TEST_F(WorkQueueTest, TwoWorkersNeverHoldTheSameGroup) {
  constexpr int kGroups = 26;
  for (int i = 0; i < kGroups; ++i) Admit(i);
  std::vector<std::string> claimed[2];
  {
    std::vector<std::jthread> workers;
    for (int w = 0; w < 2; ++w) {
      workers.emplace_back([this, w, &claimed] {
        auto queue = Connect();
        while (std::optional<Lease> lease =
                   queue->Claim("worker-" + std::to_string(w), 0).value()) {
          claimed[w].push_back(lease->gid);
          ASSERT_TRUE(queue->Complete(*lease, Blob(0)).ok());
        }
      });
    }
  }
  std::set<std::string> all(claimed[0].begin(), claimed[0].end());
  all.insert(claimed[1].begin(), claimed[1].end());
  EXPECT_EQ(claimed[0].size() + claimed[1].size(), static_cast<size_t>(kGroups));
  EXPECT_EQ(all.size(), static_cast<size_t>(kGroups));
  EXPECT_EQ(trainer_->TakeCompleted(100, 0).value().size(), static_cast<size_t>(kGroups));
}

TEST_F(WorkQueueTest, StatsNameTheOldestLeaseAndItsHolder) {
  Admit(0);
  Admit(1);
  Admit(2);
  auto generator = Connect();
  ASSERT_TRUE(generator->Claim("early", 0).value().has_value());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(generator->Claim("late", 0).value().has_value());
  const QueueStats stats = trainer_->Stats().value();
  EXPECT_EQ(stats.waiting, 1);
  EXPECT_EQ(stats.leased, 2);
  EXPECT_EQ(stats.oldest_lease_worker, "early");
  EXPECT_GE(stats.oldest_lease_s, 0.05);
  EXPECT_GE(stats.oldest_waiting_s, 0.05);
  EXPECT_LT(stats.oldest_lease_s, 30);
}

TEST_F(WorkQueueTest, ListsGroupsUntilTheyAreRetired) {
  Admit(0);
  Admit(1, Purpose::kEval);
  auto generator = Connect();
  ASSERT_TRUE(generator->Complete(generator->Claim("g", 0).value().value(), Blob(5)).ok());
  const auto list = [&] {
    std::set<std::tuple<std::string, std::string, bool>> out;
    const std::vector<UnretiredGroup> groups = trainer_->ListUnretired().value();
    for (const UnretiredGroup& group : groups) {
      out.insert({group.gid, group.blob, group.completed});
    }
    return out;
  };
  EXPECT_THAT(list(),
              ElementsAre(std::tuple(Gid(0), Blob(0), false), std::tuple(Gid(1), Blob(5), true)));
  ASSERT_TRUE(trainer_->Retire({Gid(1)}, Terminal::kTrained, epoch_).ok());
  EXPECT_THAT(list(), ElementsAre(std::tuple(Gid(0), Blob(0), false)));
}

TEST_F(WorkQueueTest, PayloadsDoNotFitIntoTheStream) {
  EXPECT_FALSE(trainer_->Admit(Gid(0), std::string(2000, 'x'), Purpose::kTrain, epoch_, 10).ok());
  Admit(0);
  auto generator = Connect();
  EXPECT_FALSE(
      generator->Complete(generator->Claim("g", 0).value().value(), std::string(2000, 'x')).ok());
}

TEST_F(WorkQueueTest, ResetForgetsGroupsAndKeepsTheEpoch) {
  Admit(0);
  Admit(1);
  auto generator = Connect();
  const Lease lease = generator->Claim("g", 0).value().value();
  ASSERT_TRUE(trainer_->Retire({Gid(1)}, Terminal::kTrained, epoch_).ok());
  ASSERT_TRUE(trainer_->Reset().ok());
  EXPECT_FALSE(generator->Complete(lease, Blob(0)).ok());
  EXPECT_FALSE(generator->Claim("g", 0).value().has_value());
  EXPECT_EQ(Admit(1), AdmitResult::kAdmitted);
  EXPECT_GT(trainer_->Fence().value(), epoch_);
}

TEST_F(WorkQueueTest, RunsDoNotSeeEachOther) {
  Admit(0);
  auto stranger = WorkQueue::Connect(server_->config(), "another-run").value();
  EXPECT_FALSE(stranger->Claim("g", 0).value().has_value());
}

}  // namespace
}  // namespace tramontane
