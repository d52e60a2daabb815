#include "generator/core/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace tramontane {
namespace {

TEST(StopStrings, FindsAStopStringSplitOverPieces) {
  StopStrings stops({"</answer>"});
  EXPECT_FALSE(stops.Push("42</ans"));
  EXPECT_EQ(stops.certain(), 2u);
  EXPECT_FALSE(stops.Push("we"));
  EXPECT_TRUE(stops.Push("r> and more"));
  EXPECT_EQ(stops.text(), "42");
}

TEST(StopStrings, EndsBeforeTheOneThatBeginsFirst) {
  StopStrings stops({"cd", "bcx"});
  EXPECT_FALSE(stops.Push("abc"));
  EXPECT_EQ(stops.certain(), 1u);
  EXPECT_TRUE(stops.Push("xcd"));
  EXPECT_EQ(stops.text(), "a");
}

TEST(StopStrings, LetsGoOfTextThatCannotBecomeAStop) {
  StopStrings stops({"END"});
  EXPECT_FALSE(stops.Push("xE"));
  EXPECT_EQ(stops.certain(), 1u);
  EXPECT_FALSE(stops.Push("Ea"));
  EXPECT_EQ(stops.certain(), 4u);
}

TEST(StopStrings, WithoutStopsEverythingIsCertain) {
  StopStrings stops({});
  EXPECT_FALSE(stops.Push("any text"));
  EXPECT_EQ(stops.certain(), 8u);
}

TEST(StopStrings, AgreesWithASearchInTheWholeTextHoweverItIsCut) {
  std::mt19937 random(3);
  const std::vector<std::string> stop_strings = {"aba", "bb", "caac"};
  for (int trial = 0; trial < 3000; ++trial) {
    StopStrings stops(stop_strings);
    std::string whole;
    size_t certain = 0;
    for (int piece = 0; piece < 12; ++piece) {
      std::string next;
      for (uint32_t i = random() % 4; i > 0; --i) next += "abc"[random() % 3];
      whole += next;
      size_t begin = std::string::npos;
      for (const std::string& stop : stop_strings) begin = std::min(begin, whole.find(stop));
      const bool hit = stops.Push(next);
      ASSERT_EQ(hit, begin != std::string::npos);
      ASSERT_EQ(stops.text(), whole.substr(0, begin));
      ASSERT_LE(certain, stops.text().size());  // what was called certain stayed
      if (hit) break;
      certain = stops.certain();
    }
  }
}

TEST(StopStrings, TextThatNobodySampledNeitherHoldsNorCompletesAStop) {
  StopStrings stops({"ab", "\n\n"});
  EXPECT_FALSE(stops.Push("xa"));
  stops.Append("b\n\n ab\n");
  EXPECT_EQ(stops.certain(), stops.text().size());  // nothing of it may begin a stop
  EXPECT_FALSE(stops.Push("\n"));
  EXPECT_TRUE(stops.Push("\nz"));
  EXPECT_EQ(stops.text(), "xab\n\n ab\n");
}

}  // namespace
}  // namespace tramontane
