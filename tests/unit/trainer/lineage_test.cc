#include "trainer/ledger/lineage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tramontane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

JournalRecord Record(const std::string& kind, int64_t epoch, int64_t step, std::vector<uint64_t> cursors) {
  JournalRecord record;
  record.kind = kind;
  record.epoch = epoch;
  record.step = step;
  record.cursors = cursors;
  for (uint64_t cursor : cursors) {
    record.gids.push_back("g" + std::to_string(cursor));
    if (kind == "batch") record.blobs.push_back("b" + std::to_string(cursor));
  }
  if (kind == "drop") record.detail = {{"reason", "stale"}};
  return record;
}

TEST(Lineage, CountsWhatBecameOfEveryGroup) {
  const Lineage lineage = VerifyLineage({Record("epoch", 1, 0, {}), Record("batch", 1, 1, {0, 2}),
                                         Record("drop", 1, 1, {1, 3, 4}), Record("batch", 1, 2, {5})});
  EXPECT_THAT(lineage.problems, ElementsAre());
  EXPECT_EQ(lineage.last_step, 2);
  EXPECT_EQ(lineage.trained_groups, 3);
  EXPECT_EQ(lineage.dropped_groups.at("stale"), 3);
  EXPECT_THAT(lineage.batches, ElementsAre(1, 3));
}

TEST(Lineage, ARollbackTakesBatchesOutOfTheLineage) {
  const Lineage lineage =
      VerifyLineage({Record("epoch", 1, 0, {}), Record("batch", 1, 1, {0}), Record("batch", 1, 2, {1}),
                     Record("batch", 1, 3, {2}), Record("epoch", 2, 1, {}), Record("rollback", 2, 1, {}),
                     Record("batch", 2, 2, {3})});
  EXPECT_THAT(lineage.problems, ElementsAre());
  EXPECT_THAT(lineage.batches, ElementsAre(1, 6));
  EXPECT_EQ(lineage.rolled_back_groups, 2);
  EXPECT_EQ(lineage.trained_groups, 2);
  EXPECT_EQ(lineage.last_step, 2);
}

class BadLineage : public testing::TestWithParam<std::pair<std::vector<JournalRecord>, const char*>> {};

TEST_P(BadLineage, IsConvicted) {
  const Lineage lineage = VerifyLineage(GetParam().first);
  ASSERT_FALSE(lineage.problems.empty());
  EXPECT_THAT(lineage.problems.front(), HasSubstr(GetParam().second));
}

JournalRecord OtherGid() {
  JournalRecord record = Record("batch", 1, 2, {0});
  record.gids = {"another"};
  return record;
}

JournalRecord MissingBlob() {
  JournalRecord record = Record("batch", 1, 1, {0, 1});
  record.blobs.pop_back();
  return record;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadLineage,
    testing::Values(
        std::pair(std::vector{Record("batch", 1, 1, {0}), Record("batch", 1, 2, {0})}, "but was trained"),
        std::pair(std::vector{Record("batch", 1, 1, {0, 0})}, "but was trained"),
        std::pair(std::vector{Record("batch", 1, 1, {0}), Record("drop", 1, 1, {0})}, "but was trained"),
        std::pair(std::vector{Record("drop", 1, 0, {0}), Record("batch", 1, 1, {0})}, "but was dropped"),
        std::pair(std::vector{Record("batch", 1, 1, {0}), Record("rollback", 1, 0, {}), Record("batch", 1, 1, {0})},
                  "but was rolled back"),
        std::pair(std::vector{Record("batch", 1, 2, {0})}, "step 2 after step 0"),
        std::pair(std::vector{Record("batch", 1, 1, {0}), Record("batch", 1, 1, {1})}, "step 1 after step 1"),
        std::pair(std::vector{Record("epoch", 2, 0, {}), Record("batch", 1, 1, {0})}, "epoch 1 after 2"),
        std::pair(std::vector{Record("epoch", 2, 0, {}), Record("epoch", 2, 0, {})}, "starts twice"),
        std::pair(std::vector{Record("batch", 1, 1, {0}), OtherGid()}, "cursor 0 belongs to two groups"),
        std::pair(std::vector{MissingBlob()}, "differ in number"),
        std::pair(std::vector{Record("batch", 1, 1, {})}, "without groups"),
        std::pair(std::vector{Record("rollback", 1, 4, {})}, "not reached"),
        std::pair(std::vector{Record("surprise", 1, 4, {})}, "unknown kind")));

}  // namespace
}  // namespace tramontane
