// Processes that are no ranks: this test program does not know the command `rank`, so that what it
// starts ends by itself.
#include "trainer/ranks/local_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trainer/ranks/trainer_ranks.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

TEST(LocalRanksTest, ARankThatEndsBeforeItJoinsEndsTheWait) {
  TrainerSection trainer;
  trainer.ranks = 3;
  ::setenv("GTEST_FILTER", "NoSuchTest.*", 1);  // for the processes that are started
  const absl::Status status = TrainerRanks::Start(trainer).status();
  ::unsetenv("GTEST_FILTER");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("ended with exit status"));
}

}  // namespace
}  // namespace tramontane
