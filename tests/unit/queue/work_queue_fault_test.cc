// The queue when Redis is killed, emptied or silent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "queue/redis.h"
#include "queue/work_queue.h"
#include "tests/support/redis_server.h"

namespace tramontane {
namespace {

std::string ShortGid(int i) { return "gid" + std::to_string(i); }
std::string ShortBlob(int i) { return "blob" + std::to_string(i); }

absl::Status StatusOf(const absl::Status& status) { return status; }
template <class T>
absl::Status StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// As callers do: repeat what came back Unavailable, a bounded number of times.
template <class F>
auto Persist(F&& call) {
  auto result = call();
  for (int i = 0; i < 100 && absl::IsUnavailable(StatusOf(result)); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    result = call();
  }
  return result;
}

TEST(WorkQueueFaults, KillAndRestartFromTheAppendOnlyFileLosesNothing) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  auto trainer = WorkQueue::Connect(server->config(), "run").value();
  auto generator = WorkQueue::Connect(server->config(), "run").value();
  const int64_t epoch = trainer->Fence().value();
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(trainer->Admit(ShortGid(i), ShortBlob(i), Purpose::kTrain, epoch, 100).value(),
              AdmitResult::kAdmitted);
  }
  const Lease done = generator->Claim("g", 0).value().value();
  ASSERT_TRUE(generator->Complete(done, ShortBlob(10)).ok());
  const Lease kept = generator->Claim("g", 0).value().value();
  ASSERT_TRUE(server->Restart().ok());

  // The lease, its holder's next claim, the completed group and the epoch are all still there.
  EXPECT_FALSE(generator->Renew(kept).ok());  // finds the broken connection
  EXPECT_TRUE(generator->Renew(kept).ok());
  EXPECT_TRUE(generator->Complete(kept, ShortBlob(11)).ok());
  EXPECT_FALSE(trainer->TakeCompleted(10, 0).ok());
  EXPECT_EQ(trainer->TakeCompleted(10, 0).value().size(), 2u);
  EXPECT_EQ(trainer->Admit(ShortGid(0), ShortBlob(0), Purpose::kTrain, epoch, 100).value(),
            AdmitResult::kKnown);
  for (int i = 2; i < 6; ++i) EXPECT_EQ(generator->Claim("g", 0).value()->gid, ShortGid(i));
  EXPECT_FALSE(generator->Claim("g", 0).value().has_value());
  EXPECT_EQ(trainer->Stats().value().alarms.at("data_lost"), 0);
}

TEST(WorkQueueFaults, AnEmptiedRedisIsNoticedAndRebuilt) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  auto trainer = WorkQueue::Connect(server->config(), "run").value();
  auto generator = WorkQueue::Connect(server->config(), "run").value();
  const int64_t epoch = trainer->Fence(7).value();
  ASSERT_EQ(epoch, 8);
  ASSERT_EQ(trainer->Admit(ShortGid(0), ShortBlob(0), Purpose::kTrain, epoch, 100).value(),
            AdmitResult::kAdmitted);
  const Lease lease = generator->Claim("g", 0).value().value();
  ASSERT_TRUE(server->RestartEmpty().ok());

  // The generator finds its lease gone; the trainer is told, restores its epoch and admits again.
  EXPECT_EQ(Persist([&] { return generator->Complete(lease, ShortBlob(1)); }).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Persist([&] {
              return trainer->Admit(ShortGid(0), ShortBlob(0), Purpose::kTrain, epoch, 100);
            }).value(),
            AdmitResult::kForgotten);
  ASSERT_TRUE(trainer->Restore(epoch).ok());
  EXPECT_EQ(trainer->Admit(ShortGid(0), ShortBlob(0), Purpose::kTrain, epoch, 100).value(),
            AdmitResult::kAdmitted);
  EXPECT_EQ(trainer->Stats().value().alarms.at("data_lost"), 1);
  const Lease again = generator->Claim("g", 0).value().value();
  EXPECT_EQ(again.gid, ShortGid(0));
  EXPECT_FALSE(
      generator->Complete(Lease{ShortGid(0), ShortBlob(0), lease.entry_id, 5, "g"}, ShortBlob(1))
          .ok());
  EXPECT_TRUE(generator->Complete(again, ShortBlob(1)).ok());
  trainer->RewindCompleted();
  EXPECT_EQ(trainer->TakeCompleted(10, 0).value().size(), 1u);
}

TEST(WorkQueueFaults, RestoreNeverTakesTheQueueFromAHigherEpoch) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  auto trainer = WorkQueue::Connect(server->config(), "run").value();
  const int64_t old_epoch = trainer->Fence().value();
  const int64_t new_epoch = trainer->Fence().value();
  EXPECT_EQ(trainer->Restore(old_epoch).code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(trainer->Restore(new_epoch).ok());
}

TEST(WorkQueueFaults, AClaimWhoseAnswerWasLostIsNotLeasedTwice) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  RedisSection impatient = server->config();
  impatient.command_timeout_s = 1.5;  // and yet enough for a Redis that has just gone on
  auto trainer = WorkQueue::Connect(server->config(), "run").value();
  auto generator = WorkQueue::Connect(impatient, "run").value();
  const int64_t epoch = trainer->Fence().value();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(trainer->Admit(ShortGid(i), ShortBlob(i), Purpose::kTrain, epoch, 100).ok());
  }
  // The request reaches Redis while it is stopped; it runs after the caller has given up.
  server->Pause();
  EXPECT_EQ(generator->Claim("g", 0).status().code(), absl::StatusCode::kUnavailable);
  server->Resume();
  auto observer = RedisConnection::Create(server->config().url, 30).value();
  bool ran = false;
  for (int i = 0; i < 3000 && !ran; ++i) {
    ran = observer->Command({"HEXISTS", "{tramontane:run}:meta", "claim:g"}).value().integer == 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(ran);
  const Lease lease = generator->Claim("g", 0).value().value();
  EXPECT_EQ(lease.gid, ShortGid(0));
  EXPECT_EQ(trainer->Stats().value().leased, 1);
  EXPECT_TRUE(generator->Complete(lease, ShortBlob(5)).ok());
  EXPECT_EQ(generator->Claim("g", 0).value()->gid, ShortGid(1));
}

TEST(WorkQueueFaults, AFullRedisRefusesAdmissionAndLetsWorkFinish) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  auto trainer = WorkQueue::Connect(server->config(), "run").value();
  auto generator = WorkQueue::Connect(server->config(), "run").value();
  const int64_t epoch = trainer->Fence().value();
  ASSERT_TRUE(trainer->Admit(ShortGid(0), ShortBlob(0), Purpose::kTrain, epoch, 100).ok());
  const Lease lease = generator->Claim("g", 0).value().value();
  auto administrator = RedisConnection::Create(server->config().url, 1).value();
  ASSERT_TRUE(administrator->Command({"CONFIG", "SET", "maxmemory", "1"}).ok());
  EXPECT_EQ(trainer->Admit(ShortGid(1), ShortBlob(1), Purpose::kTrain, epoch, 100).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(generator->Complete(lease, ShortBlob(5)).ok());
  EXPECT_TRUE(trainer->Retire({ShortGid(0)}, Terminal::kTrained, epoch).ok());
}

}  // namespace
}  // namespace tramontane
