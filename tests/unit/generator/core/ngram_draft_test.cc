#include "generator/core/ngram_draft.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

std::vector<int32_t> Draft(const std::vector<int32_t>& tokens, int32_t most = 10) {
  std::vector<int32_t> draft;
  DraftByNgram(tokens, most, draft);
  return draft;
}

using Tokens = std::vector<int32_t>;

TEST(NgramDraft, IsWhatFollowedTheLongestAndThenTheLatestMatch) {
  EXPECT_EQ(Draft({1, 2, 9, 9, 1, 2}), (Tokens{9, 9, 1, 2}));
  EXPECT_EQ(Draft({1, 2, 8, 1, 2, 7, 1, 2}), (Tokens{7, 1, 2}));        // the latest
  EXPECT_EQ(Draft({5, 1, 2, 8, 1, 2, 7, 5, 1, 2}, 2), (Tokens{8, 1}));  // the longest
  EXPECT_EQ(Draft({3, 3, 3}), Tokens{3});                               // it overlaps itself
}

TEST(NgramDraft, IsEmptyWhereNothingRepeats) {
  EXPECT_EQ(Draft({}), Tokens{});
  EXPECT_EQ(Draft({1}), Tokens{});
  EXPECT_EQ(Draft({1, 1}), Tokens{});
  EXPECT_EQ(Draft({1, 2, 3, 4, 2}), Tokens{});  // one token alone says little
  EXPECT_EQ(Draft({1, 2, 1, 2}, 0), Tokens{});
}

}  // namespace
}  // namespace tramontane
