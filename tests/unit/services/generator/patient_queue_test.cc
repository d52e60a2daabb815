#include "services/generator/patient_queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/support/redis_server.h"

namespace tramontane {
namespace {

class PatientQueueTest : public testing::Test {
 protected:
  absl::Status Stats() {
    return queue_.Call([&](WorkQueue& queue) {
      ++calls_;
      return queue.Stats().status();
    });
  }

  // Redis away, a call waiting for it.
  template <class Act>
  absl::Status CallWhileAway(Act act) {
    server_->Kill();
    absl::Status status;
    std::jthread caller([&] { status = Stats(); });
    for (int i = 0; i < 6000 && waits_.Seconds().count("redis") == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (waits_.Seconds().count("redis") == 0) {
      ADD_FAILURE() << "nobody says that Redis is away";
      give_up_ = true;
    }
    act();
    caller.join();
    return status;
  }

  std::unique_ptr<RedisServer> server_ = RedisServer::Start().value();
  std::atomic<bool> give_up_ = false;
  WaitClock waits_;
  PatientQueue queue_{server_->config(), "run", give_up_, waits_};
  int calls_ = 0;
};

TEST_F(PatientQueueTest, WaitsUntilRedisIsBackAndSaysSo) {
  const absl::Status status = CallWhileAway([this] { ASSERT_TRUE(server_->Restart().ok()); });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(waits_.Seconds().empty());
}

TEST_F(PatientQueueTest, GivesUpWhenToldTo) {
  const absl::Status status = CallWhileAway([this] { give_up_ = true; });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(calls_, 0);  // it was never connected
}

TEST_F(PatientQueueTest, OtherErrorsAreTheAnswerAtOnce) {
  Lease nobodys;
  nobodys.gid = "g";
  nobodys.entry_id = "1-1";
  nobodys.delivery = 1;
  nobodys.worker = "w";
  const absl::Status status = queue_.Call([&](WorkQueue& queue) { return queue.Renew(nobodys); });
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(waits_.Seconds().empty());
}

}  // namespace
}  // namespace tramontane
