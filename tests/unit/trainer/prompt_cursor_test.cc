#include "trainer/ledger/prompt_cursor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

namespace tramontane {
namespace {

std::vector<size_t> Pass(PromptOrder& order, size_t rows, uint64_t pass) {
  std::vector<size_t> out;
  for (size_t i = 0; i < rows; ++i) out.push_back(order.RowAt(pass * rows + i));
  return out;
}

TEST(PromptOrder, EveryPassVisitsEveryRowOnceInAnOrderOfItsOwn) {
  PromptOrder order(100, 7, true);
  std::set<std::vector<size_t>> orders;
  for (uint64_t pass = 0; pass < 5; ++pass) {
    std::vector<size_t> rows = Pass(order, 100, pass);
    orders.insert(rows);
    std::sort(rows.begin(), rows.end());
    for (size_t i = 0; i < 100; ++i) ASSERT_EQ(rows[i], i);
  }
  EXPECT_EQ(orders.size(), 5u);
}

TEST(PromptOrder, DependsOnSeedAndCursorAlone) {
  PromptOrder forward(31, 1, true), backward(31, 1, true), other(31, 2, true);
  std::vector<size_t> a, b, c;
  for (uint64_t cursor = 0; cursor < 200; ++cursor) a.push_back(forward.RowAt(cursor));
  for (uint64_t cursor = 200; cursor-- > 0;) b.insert(b.begin(), backward.RowAt(cursor));
  for (uint64_t cursor = 0; cursor < 200; ++cursor) c.push_back(other.RowAt(cursor));
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

// The order is part of what a resumed run must reproduce: a change of the shuffle breaks old runs.
TEST(PromptOrder, IsTheSameForever) {
  PromptOrder order(8, 42, true);
  const std::vector<size_t> first = Pass(order, 8, 0);
  EXPECT_THAT(first, testing::ElementsAre(3, 6, 0, 7, 1, 2, 5, 4));
}

TEST(PromptOrder, CanKeepTheOrderOfTheFile) {
  PromptOrder order(3, 9, false);
  EXPECT_EQ(order.RowAt(0), 0u);
  EXPECT_EQ(order.RowAt(4), 1u);
}

TEST(CursorFrontier, AdvancesOverWhatEndedInAnyOrder) {
  std::vector<uint64_t> cursors(500);
  std::iota(cursors.begin(), cursors.end(), 0u);
  std::shuffle(cursors.begin(), cursors.end(), std::mt19937(3));
  CursorFrontier frontier;
  std::set<uint64_t> ended;
  for (uint64_t cursor : cursors) {
    frontier.End(cursor);
    frontier.End(cursor);
    ended.insert(cursor);
    uint64_t lowest = 0;
    while (ended.count(lowest)) ++lowest;
    ASSERT_EQ(frontier.frontier(), lowest);
    ASSERT_EQ(frontier.frontier() + frontier.beyond(), ended.size());
  }
  EXPECT_EQ(frontier.frontier(), 500u);
  EXPECT_EQ(frontier.beyond(), 0u);
}

TEST(CursorFrontier, SurvivesJson) {
  CursorFrontier frontier;
  for (uint64_t cursor : {0, 1, 5, 9}) frontier.End(cursor);
  const CursorFrontier back = CursorFrontier::FromJson(Json::parse(frontier.ToJson().dump())).value();
  EXPECT_EQ(back, frontier);
  EXPECT_TRUE(back.Ended(5));
  EXPECT_FALSE(back.Ended(2));
  EXPECT_EQ(CursorFrontier::FromJson(Json::parse(R"({"frontier": 1})")).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(CursorFrontier::FromJson(Json::parse(R"({"frontier": -1, "beyond": []})")).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace tramontane
