#include "queue/redis_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tramontane {
namespace {

TEST(RedisUrl, ReadsTcpForms) {
  RedisUrl url = ParseRedisUrl("redis://cache.local:6380/3").value();
  EXPECT_EQ(url.host, "cache.local");
  EXPECT_EQ(url.port, 6380);
  EXPECT_EQ(url.database, 3);
  EXPECT_EQ(ParseRedisUrl("redis://cache").value().port, 6379);
  url = ParseRedisUrl("redis://[::1]:7000").value();
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, 7000);
}

TEST(RedisUrl, ReadsCredentialsAndKeepsThePasswordToItself) {
  const RedisUrl url = ParseRedisUrl("redis://worker:s3cr@t@host:1").value();
  EXPECT_EQ(url.user, "worker");
  EXPECT_EQ(url.password, "s3cr@t");
  EXPECT_THAT(url.Printable(), testing::Not(testing::HasSubstr("s3cr")));
  EXPECT_THAT(std::string(ParseRedisUrl("redis://worker:s3cret@host:x").status().message()),
              testing::Not(testing::HasSubstr("s3cret")));
}

TEST(RedisUrl, ReadsUnixSockets) {
  const RedisUrl url = ParseRedisUrl("unix:///run/redis.sock?db=2&password=p").value();
  EXPECT_EQ(url.unix_path, "/run/redis.sock");
  EXPECT_EQ(url.database, 2);
  EXPECT_EQ(url.password, "p");
}

class BadRedisUrl : public testing::TestWithParam<const char*> {};

TEST_P(BadRedisUrl, IsAnErrorThatNamesTheField) {
  const absl::Status status = ParseRedisUrl(GetParam()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("redis.url"));
}

INSTANTIATE_TEST_SUITE_P(Forms, BadRedisUrl,
                         testing::Values("", "localhost:6379", "redis://", "redis://h:0", "redis://h:70000",
                                         "redis://h:1/x", "redis://[::1", "redis://pw@h:1", "unix://relative",
                                         "unix:///s?db=-1", "unix:///s?color=red", "rediss://h:1"));

}  // namespace
}  // namespace tramontane
