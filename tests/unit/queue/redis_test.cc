#include "queue/redis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "common/clock.h"
#include "tests/support/redis_server.h"

namespace tramontane {
namespace {

TEST(Redis, CarriesArbitraryBytesAndEveryReplyKind) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  std::unique_ptr<RedisConnection> redis = RedisConnection::Create(server->config().url, 1).value();
  const std::string bytes("\0\r\n\xff$5", 6);
  ASSERT_TRUE(redis->Command({"SET", bytes, bytes}).ok());
  EXPECT_EQ(redis->Command({"GET", bytes}).value().string, bytes);
  EXPECT_EQ(redis->Command({"GET", "none"}).value().kind, RedisReply::Kind::kNil);
  EXPECT_EQ(redis->Command({"INCRBY", "n", "-7"}).value().integer, -7);
  const RedisReply list = redis->Command({"MGET", bytes, "none"}).value();
  ASSERT_EQ(list.array.size(), 2u);
  EXPECT_EQ(list.array[0].string, bytes);
  EXPECT_EQ(list.array[1].kind, RedisReply::Kind::kNil);
}

TEST(Redis, AnErrorReplyIsAStatusAndLeavesTheConnectionUsable) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  std::unique_ptr<RedisConnection> redis = RedisConnection::Create(server->config().url, 1).value();
  ASSERT_TRUE(redis->Command({"SET", "text", "x"}).ok());
  EXPECT_EQ(redis->Command({"INCR", "text"}).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(redis->Command({"FCALL", "nothing", "0"}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(redis->Command({"GET", "text"}).value().string, "x");
}

TEST(Redis, IsUnavailableWhileTheServerIsAwayAndDialsAgainByItself) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  std::unique_ptr<RedisConnection> redis = RedisConnection::Create(server->config().url, 1).value();
  ASSERT_TRUE(redis->Command({"SET", "k", "v"}).ok());
  server->Kill();
  EXPECT_EQ(redis->Command({"GET", "k"}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(redis->Command({"GET", "k"}).status().code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(server->Restart().ok());
  EXPECT_EQ(redis->Command({"GET", "k"}).value().string, "v");
}

TEST(Redis, GivesUpOnASilentServerAfterItsTimeout) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  std::unique_ptr<RedisConnection> redis =
      RedisConnection::Create(server->config().url, 1.5).value();
  ASSERT_TRUE(redis->Command({"PING"}).ok());
  server->Pause();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(redis->Command({"PING"}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_GT(SecondsSince(start), 1.4);
  EXPECT_LT(SecondsSince(start), 20);
  server->Resume();
  EXPECT_TRUE(redis->Command({"PING"}).ok());
}

TEST(Redis, ABlockingCommandMayOutlastTheOrdinaryTimeout) {
  std::unique_ptr<RedisServer> server = RedisServer::Start().value();
  std::unique_ptr<RedisConnection> redis =
      RedisConnection::Create(server->config().url, 0.1).value();
  EXPECT_EQ(redis->Command({"BLPOP", "list", "0.3"}, 1.0).value().kind, RedisReply::Kind::kNil);
}

TEST(Redis, AnUnreachableServerIsNamed) {
  std::unique_ptr<RedisConnection> redis =
      RedisConnection::Create("redis://127.0.0.1:1", 1).value();
  const absl::Status status = redis->Command({"PING"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace tramontane
