#include "trainer/loop/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/redis_server.h"

namespace tramontane {
namespace {

JournalRecord Record(const std::string& kind, int64_t step, std::vector<uint64_t> cursors) {
  JournalRecord record;
  record.kind = kind;
  record.epoch = 1;
  record.step = step;
  record.cursors = cursors;
  for (uint64_t cursor : cursors) {
    record.gids.push_back("g" + std::to_string(cursor));
    if (kind == "batch") record.blobs.push_back("b" + std::to_string(cursor));
  }
  return record;
}

class RecoveryTest : public testing::Test {
 protected:
  // Appends, and returns the ledger of a checkpoint taken right after.
  LedgerState Append(const JournalRecord& record) {
    auto journal = Journal::Open(path_).value();
    EXPECT_TRUE(journal->Append(record, true).ok());
    LedgerState ledger;
    ledger.journal_size = journal->size();
    ledger.journal_head = journal->head();
    return ledger;
  }
  absl::StatusOr<RecoveryPlan> Plan(std::optional<CheckpointState> restored = {}, bool resume = true) {
    auto journal = Journal::Open(path_).value();
    return PlanRecovery(*journal, resume, restored, 10);
  }
  TempDir dir_;
  const std::string path_ = dir_.path() + "/journal.jsonl";
};

TEST_F(RecoveryTest, ReplaysFromTheStartWithoutACheckpoint) {
  Append(Record("batch", 1, {0, 2}));
  Append(Record("drop", 1, {1}));
  Append(Record("batch", 2, {4}));
  const RecoveryPlan plan = Plan().value();
  EXPECT_EQ(plan.step, 0);
  ASSERT_EQ(plan.replay.size(), 2u);
  EXPECT_EQ(plan.replay[1].step, 2);
  EXPECT_EQ(plan.ledger.frontier.frontier(), 3u);
  EXPECT_TRUE(plan.ledger.frontier.Ended(4));
  EXPECT_FALSE(plan.ledger.frontier.Ended(3));
}

TEST_F(RecoveryTest, ReplaysOnlyWhatFollowsTheCheckpoint) {
  Append(Record("batch", 1, {0}));
  LedgerState ledger = Append(Record("batch", 2, {1}));
  ledger.frontier.End(0);
  ledger.frontier.End(1);
  Append(Record("batch", 3, {2}));
  const RecoveryPlan plan = Plan(CheckpointState{2, 1, ToJson(ledger)}).value();
  EXPECT_EQ(plan.step, 2);
  ASSERT_EQ(plan.replay.size(), 1u);
  EXPECT_EQ(plan.replay[0].step, 3);
  EXPECT_EQ(plan.ledger.frontier.frontier(), 3u);
  EXPECT_THAT(plan.needed_blobs, testing::ElementsAre("b0", "b1", "b2"));
}

TEST_F(RecoveryTest, RefusesAForeignCheckpoint) {
  LedgerState ledger = Append(Record("batch", 1, {0}));
  ledger.journal_head = std::string(64, '0');
  EXPECT_EQ(Plan(CheckpointState{1, 1, ToJson(ledger)}).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RecoveryTest, RefusesACheckpointOfARolledBackLineage) {
  Append(Record("batch", 1, {0}));
  const LedgerState ledger = Append(Record("batch", 2, {1}));
  Append(Record("rollback", 1, {}));
  Append(Record("batch", 2, {2}));
  EXPECT_EQ(Plan(CheckpointState{2, 1, ToJson(ledger)}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RecoveryTest, RefusesToStartAfreshOverAJournal) {
  Append(Record("batch", 1, {0}));
  EXPECT_EQ(Plan({}, false).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RecoveryTest, RefusesAJournalThatTrainedAGroupTwice) {
  Append(Record("batch", 1, {0}));
  Append(Record("batch", 2, {0}));
  EXPECT_EQ(Plan().status().code(), absl::StatusCode::kDataLoss);
}

TEST(LedgerState, SurvivesJson) {
  LedgerState ledger;
  ledger.journal_size = 3;
  ledger.journal_head = "head";
  ledger.frontier.End(4);
  ledger.elapsed_s = 1.5;
  ledger.generated_tokens = 7;
  ledger.recent_rewards = {0.25, 0.5};
  const LedgerState back = LedgerFromJson(Json::parse(ToJson(ledger).dump())).value();
  EXPECT_EQ(ToJson(back), ToJson(ledger));
  EXPECT_EQ(LedgerFromJson(Json::object()).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace tramontane
