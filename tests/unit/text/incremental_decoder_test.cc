#include <gtest/gtest.h>

#include <random>

#include "tests/unit/text/golden.h"
#include "text/tokenizer.h"

namespace tramontane {
namespace {

using Ids = std::vector<int32_t>;

class IncrementalDecoding : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(GoldenFolder(GetParam()));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }
  std::shared_ptr<const Tokenizer> tokenizer_;
};

// Any sequence of ids, likely or not: broken characters, runs of byte tokens, ids without a token.
TEST_P(IncrementalDecoding, PiecesAddUpToTheWhole) {
  std::mt19937 random(7);
  IncrementalDecoder decoder(tokenizer_);
  for (int round = 0; round < 400; ++round) {
    const int range = round % 3 == 0 ? 300 : tokenizer_->vocab_size() + 3;
    Ids ids(1 + random() % 20);
    std::string streamed;
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(random() % range);
      streamed += decoder.Push(id);
    }
    streamed += decoder.Finish();
    ASSERT_EQ(streamed, *tokenizer_->Decode(ids, false));
  }
}

TEST_P(IncrementalDecoding, RealTextComesThroughWithoutBrokenCharacters) {
  const std::string text = "Grüße, 世界! 👩‍👩‍👧 don't  stop\n\n12345";
  const auto ids = tokenizer_->Encode(text, false);
  ASSERT_TRUE(ids.ok());
  IncrementalDecoder decoder(tokenizer_);
  std::string streamed;
  for (const int32_t id : *ids) {
    const std::string piece = decoder.Push(id);
    EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos) << piece;
    streamed += piece;
  }
  streamed += decoder.Finish();
  EXPECT_EQ(streamed, *tokenizer_->Decode(*ids, false));
}

INSTANTIATE_TEST_SUITE_P(Kinds, IncrementalDecoding, testing::ValuesIn(GoldenNames(false)),
                         [](const auto& info) { return info.param; });

TEST(IncrementalDecoderTest, ACharacterComesWithItsLastByte) {
  const auto tokenizer = Tokenizer::Load(GoldenFolder("demo"));
  ASSERT_TRUE(tokenizer.ok());
  const Ids euro = *(*tokenizer)->Encode("€", false);
  ASSERT_EQ(euro.size(), 3u);
  IncrementalDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(euro[0]), "");
  EXPECT_EQ(decoder.Push(euro[1]), "");
  EXPECT_EQ(decoder.Push(euro[2]), "€");
  EXPECT_EQ(decoder.Push(euro[0]), "");
  EXPECT_EQ(decoder.Finish(), "\xEF\xBF\xBD");  // one incomplete character
  EXPECT_EQ(decoder.Push(16), "1");             // and a fresh start
}

}  // namespace
}  // namespace tramontane
