#include "text/thoughts.h"

#include <gtest/gtest.h>

#include "tests/unit/text/golden.h"

namespace tramontane {
namespace {

const ThinkTags kTags = {"<think>", "</think>"};

class Thoughts : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(GoldenFolder(GetParam()));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }

  // Tokens piece by piece: what they decode to one after the other.
  std::string TextOf(const std::vector<int32_t>& tokens, size_t begin, size_t end) const {
    IncrementalDecoder decoder(tokenizer_);
    std::string text;
    for (size_t i = 0; i < end; ++i) {
      const std::string piece = decoder.Push(tokens[i]);
      if (i >= begin) text += piece;
    }
    return text;
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(Thoughts, AreTheTokensThatLieWhollyBetweenTheTags) {
  for (const bool opened : {false, true}) {
    const std::string before = opened ? "" : "well <think>", thoughts = "one and two, so three";
    const auto tokens = *tokenizer_->Encode(before + thoughts + "</think> it is 3", false);
    const std::string whole = TextOf(tokens, 0, tokens.size());
    if (whole.find(kTags.close) == std::string::npos) continue;  // known to come back otherwise
    const ThoughtSpan span = FindThoughts(tokens, opened, kTags, tokenizer_);
    EXPECT_TRUE(span.closed);
    ASSERT_GT(span.size(), 0u);
    const std::string found = TextOf(tokens, span.begin, span.end);
    const size_t begin = opened ? 0 : whole.find(kTags.open) + kTags.open.size();
    const std::string all = whole.substr(begin, whole.find(kTags.close) - begin);
    EXPECT_NE(all.find(found), std::string::npos) << found << " of " << all;
    // What is next to them overlaps a tag.
    const std::string wider = TextOf(tokens, span.begin, span.end + 1);
    EXPECT_EQ(all.find(wider), std::string::npos) << wider << " of " << all;
    if (span.begin > 0) {
      EXPECT_EQ(all.find(TextOf(tokens, span.begin - 1, span.end)), std::string::npos);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Thoughts, testing::ValuesIn(GoldenNames(false)),
                         [](const auto& info) { return info.param; });

TEST(ThoughtsTest, UnclosedOnesReachToTheEndAndWithoutATagThereAreNone) {
  const auto tokenizer = *Tokenizer::Load(GoldenFolder("demo"));
  const auto open = *tokenizer->Encode("<think>on and on", false);
  const ThoughtSpan span = FindThoughts(open, false, kTags, tokenizer);
  EXPECT_FALSE(span.closed);
  EXPECT_EQ(span.end, open.size());
  EXPECT_GT(span.begin, 0u);
  const auto plain = *tokenizer->Encode("the answer is 3", false);
  EXPECT_EQ(FindThoughts(plain, false, kTags, tokenizer).size(), 0u);
  EXPECT_EQ(FindThoughts(plain, true, kTags, tokenizer).size(), plain.size());
  const auto none = *tokenizer->Encode("<think></think>3", false);
  const ThoughtSpan empty = FindThoughts(none, false, kTags, tokenizer);
  EXPECT_TRUE(empty.closed);
  EXPECT_EQ(empty.size(), 0u);
}

TEST(ThoughtsTest, AnAnswerOpensBehindTheLastEndToken) {
  const auto tokenizer = *Tokenizer::Load(GoldenFolder("demo"));
  const std::vector<int32_t> prompt = *tokenizer->Encode("a;<think>b;<think>c", false);
  const std::vector<int32_t> end = *tokenizer->Encode(";", false);
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(*AnswerOpening(prompt, end, *tokenizer), "<think>c");
  EXPECT_EQ(*AnswerOpening(prompt, {-1}, *tokenizer), "a;<think>b;<think>c");
}

}  // namespace
}  // namespace tramontane
