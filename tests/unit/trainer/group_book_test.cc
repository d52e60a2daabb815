#include "trainer/loop/group_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tramontane {
namespace {

using testing::ElementsAre;

GroupBook::Options Small() {
  return {.groups_per_step = 2, .max_staleness_versions = 1, .max_steps = 100, .version = 0};
}

ReadyGroup Ready(uint64_t cursor, int64_t version) {
  ReadyGroup ready;
  ready.cursor = cursor;
  ready.group.task.issued_version = version;
  return ready;
}

std::vector<uint64_t> IssueAll(GroupBook& book) {
  std::vector<uint64_t> cursors;
  while (std::optional<uint64_t> cursor = book.NextToIssue()) {
    book.SetIssued(*cursor, "g" + std::to_string(*cursor), "t" + std::to_string(*cursor));
    cursors.push_back(*cursor);
  }
  return cursors;
}

std::vector<uint64_t> CursorsOf(const std::vector<ReadyGroup>& batch) {
  std::vector<uint64_t> cursors;
  for (const ReadyGroup& ready : batch) cursors.push_back(ready.cursor);
  return cursors;
}

TEST(GroupBook, IssuesUpToTheStalenessBoundAndAgainAsTheVersionRises) {
  GroupBook book(Small(), {});
  EXPECT_THAT(IssueAll(book), ElementsAre(0, 1, 2, 3));
  book.MarkReady(Ready(2, 0));
  book.MarkReady(Ready(1, 0));
  EXPECT_THAT(IssueAll(book), ElementsAre());
  const auto batch = book.TakeBatch(false);
  EXPECT_THAT(CursorsOf(*batch), ElementsAre(1, 2));
  EXPECT_THAT(IssueAll(book), ElementsAre());  // in training counts as accepted
  book.SetEnded({1, 2});
  EXPECT_THAT(IssueAll(book), ElementsAre());
  book.StepDone(1);
  EXPECT_THAT(IssueAll(book), ElementsAre(4, 5));
}

TEST(GroupBook, ABatchIsCompleteByItsTokensToo) {
  GroupBook::Options options = Small();
  options.groups_per_step = 3;
  options.tokens_per_step = 10;
  GroupBook book(options, {});
  IssueAll(book);
  const auto of_tokens = [](uint64_t cursor, size_t tokens, int32_t injected) {
    ReadyGroup ready = Ready(cursor, 0);
    ready.group.rollouts.resize(1);
    ready.group.rollouts[0].tokens.resize(tokens);
    if (injected > 0) ready.group.rollouts[0].injected = {{0, injected}};
    return ready;
  };
  book.MarkReady(of_tokens(0, 12, 6));
  EXPECT_FALSE(book.TakeBatch(false));  // six were not sampled
  book.MarkReady(of_tokens(1, 4, 0));
  book.MarkReady(of_tokens(2, 50, 0));
  EXPECT_THAT(CursorsOf(*book.TakeBatch(false)), ElementsAre(0, 1));
}

TEST(GroupBook, ADroppedGroupMakesRoomAtOnceAndEndsWhenJournalled) {
  GroupBook book(Small(), {});
  IssueAll(book);
  book.MarkDropped({0, "g0", "", "zero_variance", Terminal::kDropped, std::nullopt});
  EXPECT_THAT(IssueAll(book), ElementsAre(4));
  EXPECT_EQ(book.frontier().frontier(), 0u);
  EXPECT_EQ(book.TakeDropped().size(), 1u);
  EXPECT_THAT(book.SetEnded({0}), ElementsAre("t0"));
  EXPECT_EQ(book.frontier().frontier(), 1u);
}

TEST(GroupBook, AGroupTooLateToBeTrainedOnGivesItsPlaceToAnother) {
  GroupBook book(Small(), {});
  EXPECT_THAT(IssueAll(book), ElementsAre(0, 1, 2, 3));
  const auto train = [&](uint64_t first, uint64_t second, int64_t version) {
    book.MarkReady(Ready(first, version));
    book.MarkReady(Ready(second, version));
    EXPECT_THAT(CursorsOf(*book.TakeBatch(false)), ElementsAre(first, second));
    book.SetEnded({first, second});
    book.StepDone(version + 1);
  };
  train(1, 2, 0);
  EXPECT_THAT(IssueAll(book), ElementsAre(4, 5));  // 0 and 3 may still be in time
  train(3, 4, 1);
  // At version 2 what group 0 was sampled at is too old: 5, and three more.
  EXPECT_THAT(IssueAll(book), ElementsAre(6, 7, 8));
  EXPECT_EQ(book.counts().running, 5);
  EXPECT_EQ(book.StandingOf("g0"), GroupBook::Standing::kRunning);
  book.MarkReady(Ready(0, 2));  // sampled late, and fresh after all
  book.MarkReady(Ready(5, 2));
  EXPECT_THAT(CursorsOf(*book.TakeBatch(false)), ElementsAre(0, 5));
}

TEST(GroupBook, DropsWhatBecameStaleWhileItWaited) {
  GroupBook book(Small(), {});
  IssueAll(book);
  for (uint64_t cursor = 0; cursor < 4; ++cursor)
    book.MarkReady(Ready(cursor, cursor == 3 ? 2 : 0));
  book.StepDone(2);
  EXPECT_FALSE(book.TakeBatch(false).has_value());
  const std::vector<DroppedGroup> dropped = book.TakeDropped();
  ASSERT_EQ(dropped.size(), 3u);
  EXPECT_EQ(dropped[0].reason, "stale");
  EXPECT_EQ(dropped[0].terminal, Terminal::kStale);
  EXPECT_THAT(CursorsOf(*book.TakeBatch(true)), ElementsAre(3));
}

TEST(GroupBook, TakesAGroupOnlyOnce) {
  GroupBook book(Small(), {});
  IssueAll(book);
  book.MarkReady(Ready(0, 0));
  EXPECT_EQ(book.StandingOf("g0"), GroupBook::Standing::kFinished);
  EXPECT_FALSE(book.Adopt(0, "g0"));
  book.MarkReady(Ready(0, 0));
  EXPECT_EQ(book.counts().ready, 1);
  book.TakeBatch(true);
  book.SetEnded({0});
  EXPECT_EQ(book.StandingOf("g0"), GroupBook::Standing::kUnknown);
  EXPECT_FALSE(book.Adopt(0, "g0"));
}

TEST(GroupBook, ResumesBehindTheFrontierAndSkipsWhatEndedOrWasAdopted) {
  CursorFrontier frontier;
  for (uint64_t cursor : {0, 1, 3}) frontier.End(cursor);
  GroupBook book(Small(), frontier);
  EXPECT_TRUE(book.Adopt(4, "g4"));
  EXPECT_FALSE(book.Adopt(3, "g3"));
  EXPECT_THAT(IssueAll(book), ElementsAre(2, 5, 6));
}

TEST(GroupBook, StopsIssuingWhereTheRunEnds) {
  GroupBook::Options options = Small();
  options.max_steps = 1;
  options.max_staleness_versions = 8;
  GroupBook book(options, {});
  EXPECT_EQ(IssueAll(book).size(), 4u);  // twice what is needed, as some may be dropped
}

TEST(GroupBook, DropAllLeavesNothingLive) {
  GroupBook book(Small(), {});
  IssueAll(book);
  book.MarkReady(Ready(1, 0));
  book.DropAll("run_finished");
  EXPECT_EQ(book.TakeDropped().size(), 4u);
  EXPECT_EQ(book.counts().running + book.counts().ready, 0);
}

}  // namespace
}  // namespace tramontane
