// How often a request is tried, and which one is taken to be at fault when a service dies.
#include "services/verifier/verify_job.h"

#include <gtest/gtest.h>

#include <vector>

namespace tramontane {
namespace {

// The failure after which the request was given up, from 1; 0: it was kept.
int GivenUpAfter(const std::vector<Failure>& failures, int32_t max_attempts = 3,
                 bool* suspect = nullptr) {
  JobQueue queue(max_attempts);
  VerifyJob job;
  for (size_t i = 0; i < failures.size(); ++i) {
    if (queue.Failed(std::move(job), failures[i], 0)) return static_cast<int>(i) + 1;
    queue.TakeDue(1 << 20);
    job = queue.Pop();
    if (suspect) *suspect = job.suspect;
  }
  return 0;
}

TEST(JobQueueTest, AServiceThatDiesThreeTimesOverARequestGivesItUp) {
  using enum Failure;
  EXPECT_EQ(GivenUpAfter({kCrash, kCrash, kCrashAlone}), 3);
  EXPECT_EQ(GivenUpAfter({kCrashAlone, kCrash, kCrashAlone}), 3);
  bool suspect = false;
  EXPECT_EQ(GivenUpAfter({kCrash}, 3, &suspect), 0);
  EXPECT_FALSE(suspect) << "anybody may be in flight once";
  EXPECT_EQ(GivenUpAfter({kCrash, kCrash}, 3, &suspect), 0);
  EXPECT_TRUE(suspect) << "from now on it is asked alone";
  EXPECT_EQ(GivenUpAfter({kCrash, kCrash, kCrash, kOutage, kAttempt, kAttempt}), 0)
      << "others may have done it";
}

TEST(JobQueueTest, ABrokenStreamMakesSuspectsAndIsNoTry) {
  using enum Failure;
  bool suspect = false;
  EXPECT_EQ(GivenUpAfter({kBreak}, 3, &suspect), 0);
  EXPECT_TRUE(suspect);
  EXPECT_EQ(GivenUpAfter({kBreak, kAttempt, kAttempt}), 0) << "others may have done it";
}

TEST(JobQueueTest, AnswersThatAreWrongAndServicesThatStopAreCountedApart) {
  using enum Failure;
  EXPECT_EQ(GivenUpAfter({kAttempt, kOutage, kRefusal, kAttempt, kAttempt}), 5);
  EXPECT_EQ(GivenUpAfter({kAttempt}, 1), 1);
  EXPECT_EQ(GivenUpAfter(std::vector<Failure>(9, kOutage), 1), 0);
  EXPECT_EQ(GivenUpAfter(std::vector<Failure>(10, kOutage), 1), 10);
}

}  // namespace
}  // namespace tramontane
