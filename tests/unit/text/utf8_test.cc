#include "text/utf8.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

struct Case {
  std::string bytes, text;
  size_t done;
};

TEST(Utf8Test, EachInvalidPartBecomesOneReplacement) {
  const std::string bad(kReplacementCharacter);
  const Case cases[] = {
      {"a\xC3\xA9", "aé", 3},
      {"\xE2\x82", "", 0},                             // may still become €
      {"\xE2\x28", bad + "(", 2},                      // cannot
      {"\xE2\x82\x28", bad + "(", 3},                  // two bytes, one part
      {"\xC0\x80", bad + bad, 2},                      // overlong
      {"\xED\xA0\x80", bad + bad + bad, 3},            // surrogate
      {"\xF4\x90\x80\x80", bad + bad + bad + bad, 4},  // beyond U+10FFFF
      {"\xF0\x9F\x98\x80z\xF0\x9F", "😀z", 5},
      {"\xFF\x80", bad + bad, 2},
  };
  for (const Case& c : cases) {
    std::string text;
    EXPECT_EQ(AppendCertainUtf8(c.bytes, &text), c.done);
    EXPECT_EQ(text, c.text);
  }
}

TEST(Utf8Test, SplitsAnywhereGiveTheSameText) {
  const std::string bytes = "a\xE2\x82\xAC\xFF\xF0\x9F\x98\x80\xE2\x82!\xC3";
  std::string whole, rest = bytes;
  rest.erase(0, AppendCertainUtf8(bytes, &whole));
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    std::string text, pending = bytes.substr(0, cut);
    pending.erase(0, AppendCertainUtf8(pending, &text));
    pending += bytes.substr(cut);
    pending.erase(0, AppendCertainUtf8(pending, &text));
    EXPECT_EQ(text, whole) << cut;
    EXPECT_EQ(pending, rest) << cut;
  }
}

TEST(Utf8Test, ValidityNeedsWholeCharacters) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("é€😀"));
  EXPECT_FALSE(IsValidUtf8("\xE2\x82"));
  EXPECT_FALSE(IsValidUtf8("a\x80"));
}

}  // namespace
}  // namespace tramontane
