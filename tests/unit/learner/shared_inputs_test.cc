// What rows of a group have in common.
#include "trainer/learner/shared_inputs.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

struct Case {
  std::vector<std::vector<int32_t>> prompts = {}, responses = {};
  std::vector<std::vector<uint8_t>> routes = {};
  std::vector<int64_t> groups = {};

  std::vector<TrainRow> Rows() const {
    std::vector<TrainRow> rows(prompts.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].prompt = prompts[i];
      rows[i].response = responses[i];
      if (!routes.empty()) rows[i].routes = routes[i];
      rows[i].group = groups[i];
    }
    return rows;
  }
  std::vector<int64_t> Shared(const ShareRule& rule) const {
    std::vector<TrainRow> rows = Rows();
    ShareInputs(rule, rows);
    std::vector<int64_t> shared;
    for (const TrainRow& row : rows) shared.push_back(row.shared_tokens);
    return shared;
  }
};

using Counts = std::vector<int64_t>;

TEST(SharedInputsTest, ThePromptAndWhatResponsesBeginWithIsShared) {
  const Case a = {.prompts = {{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {4}, {4}, {5, 6}},
                  .responses = {{7, 8, 9}, {7, 8, 1}, {7, 5}, {2}, {2, 3}, {1}},
                  .groups = {0, 0, 0, 1, 1, 2}};
  // The last token of a response is no input: of {7, 5} the 7 is.
  EXPECT_EQ(a.Shared({}), (Counts{4, 4, 4, 1, 1, 0}));
  EXPECT_EQ(a.Shared({.next = true}), (Counts{3, 3, 3, 0, 0, 0}));
}

TEST(SharedInputsTest, RowsWithoutResponseShareNothingAndTakeNothingAway) {
  const Case a = {.prompts = {{1, 2}, {1, 2}, {1, 2}, {3}, {3}},
                  .responses = {{5, 6}, {}, {5, 7}, {1, 1}, {}},
                  .groups = {0, 0, 0, 1, 1}};
  EXPECT_EQ(a.Shared({}), (Counts{3, 0, 3, 0, 0}));
}

TEST(SharedInputsTest, PromptsOfOneGroupMayDiffer) {
  const Case a = {.prompts = {{1, 2}, {1, 3}, {9}, {8}},
                  .responses = {{5, 6}, {5, 6}, {1, 2}, {1, 2}},
                  .groups = {0, 0, 1, 1}};
  EXPECT_EQ(a.Shared({}), (Counts{1, 1, 0, 0}));
}

TEST(SharedInputsTest, RoutesMustAgreeWhereTheyAreReplayed) {
  Case a = {.prompts = {{1, 2, 3}, {1, 2, 3}},
            .responses = {{7, 8}, {7, 9}},
            .routes = {{0, 1, 0, 2, 1, 2, 0, 1}, {0, 1, 0, 2, 1, 0, 0, 1}},
            .groups = {0, 0}};
  EXPECT_EQ(a.Shared({}), (Counts{4, 4}));
  EXPECT_EQ(a.Shared({.routes = true}), (Counts{2, 2}));
  a.routes[1] = a.routes[0];
  EXPECT_EQ(a.Shared({.routes = true}), (Counts{4, 4}));
}

TEST(SharedInputsTest, ARowHoldsWhatTheOneBeforeItComputes) {
  const Case a = {.prompts = {{1, 2}, {1, 2}, {3}, {1, 2}},
                  .responses = {{5}, {6}, {1}, {7}},
                  .groups = {0, 0, 1, 0}};
  std::vector<TrainRow> rows = a.Rows();
  ShareInputs({}, rows);
  const std::vector<int32_t> members = {0, 1, 2, 3};
  EXPECT_EQ(HeldTokens(rows, members, 0), 0);
  EXPECT_EQ(HeldTokens(rows, members, 1), 2);
  EXPECT_EQ(HeldTokens(rows, members, 2), 0);
  EXPECT_EQ(HeldTokens(rows, members, 3), 0) << "the group does not stand side by side";
}

}  // namespace
}  // namespace tramontane
