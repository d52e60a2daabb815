#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/source_file.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/text/golden.h"

namespace tramontane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

std::string DemoFolder() { return SourceFile("examples/demo/tokenizer"); }

class GoldenTokenizer : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string folder = GoldenFolder(GetParam());
    expected_ = Expected(folder);
    auto tokenizer = Tokenizer::Load(folder);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }
  nlohmann::ordered_json expected_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(GoldenTokenizer, EncodesAsTransformers) {
  for (const bool special : {false, true}) {
    const auto& rows = expected_[special ? "ids_special_True" : "ids_special_False"];
    ASSERT_EQ(rows.size(), expected_["texts"].size());
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string text = expected_["texts"][i];
      const auto ids = tokenizer_->Encode(text, special);
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(*ids, rows[i].get<Ids>()) << text;
    }
  }
}

TEST_P(GoldenTokenizer, DecodesAsTransformers) {
  for (const bool skip : {false, true}) {
    const auto& texts = expected_[skip ? "decoded_skip_True" : "decoded_skip_False"];
    ASSERT_EQ(texts.size(), expected_["rows"].size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto text = tokenizer_->Decode(expected_["rows"][i].get<Ids>(), skip);
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, texts[i].get<std::string>());
    }
  }
}

TEST_P(GoldenTokenizer, CountsAddedTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), expected_["vocab_size"].get<int32_t>());
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenTokenizer, testing::ValuesIn(GoldenNames(false)),
                         [](const auto& info) { return info.param; });

TEST(TokenizerTest, DemoSeesOneTokenAByte) {
  const auto tokenizer = Tokenizer::Load(DemoFolder());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode("12+3=<think>é</think>", true);
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre(16, 17, 10, 18, 28, 259, 127, 102, 260));
  EXPECT_EQ((*tokenizer)->TokenId("<|im_end|>"), 258);
  EXPECT_EQ((*tokenizer)->TokenId("no such token"), -1);
  EXPECT_EQ((*tokenizer)->sha256().size(), 64u);
  EXPECT_EQ(*(*tokenizer)->Decode({16, 258, 259}, true), "1<think>");
}

TEST(TokenizerTest, OneTokenizerServesManyThreads) {
  const auto tokenizer = Tokenizer::Load(GoldenFolder("llama3"));
  ASSERT_TRUE(tokenizer.ok());
  const Ids want = *(*tokenizer)->Encode("the same words again", true);
  std::vector<std::thread> threads;
  std::atomic<int> same = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i)
        same += *(*tokenizer)->Encode("the same words again", true) == want;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, 200);
}

TEST(TokenizerTest, RefusesWhatIsNotText) {
  const auto tokenizer = Tokenizer::Load(DemoFolder());
  ASSERT_TRUE(tokenizer.ok());
  const auto ids = (*tokenizer)->Encode("ab\xff", false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("UTF-8"));
  EXPECT_EQ((*tokenizer)->Decode({-1}, false).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*(*tokenizer)->Decode({16, 1000000, 17}, false), "12");  // no token: nothing
}

TEST(TokenizerTest, SaysWhichFileIsMissing) {
  const TempDir folder;
  const auto tokenizer = Tokenizer::Load(folder.path());
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(tokenizer.status().message()),
              HasSubstr(folder.path() + "/tokenizer.json"));
}

class HostileTokenizer : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(HostileTokenizer, IsRefusedByName) {
  const TempDir folder;
  folder.Write(GetParam().first, GetParam().second);
  const auto tokenizer = Tokenizer::Load(folder.path());
  ASSERT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << tokenizer.status();
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(GetParam().first));
}

INSTANTIATE_TEST_SUITE_P(
    Files, HostileTokenizer,
    testing::Values(
        std::pair("tokenizer.json", "{"), std::pair("tokenizer.json", "[]"),
        std::pair("tokenizer.json", "{\"model\": 3}"),
        std::pair("tokenizer.json",
                  "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}"),
        std::pair("tokenizer.json",
                  "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}"),
        std::pair("tokenizer.json",
                  "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}, "
                  "\"added_tokens\": [{}]}"),
        std::pair(
            "tokenizer.json",
            "{\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
            "\"trim_offsets\": false},"
            " \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 4000000000}, \"merges\": []}}"),
        std::pair("tekken.json", "{\"config\": {}}"),
        std::pair("tekken.json",
                  "{\"config\": {\"pattern\": \".\", \"default_num_special_tokens\": 99999999999},"
                  " \"vocab\": []}"),
        std::pair("tekken.json",
                  "{\"config\": {\"pattern\": \"(\"}, \"vocab\": [{\"token_bytes\": \"YQ==\"}]}"),
        std::pair("tekken.json",
                  "{\"config\": {\"pattern\": \".\"}, \"vocab\": [{\"token_bytes\": \"*\"}]}")));

TEST(TokenizerTest, BrokenSettingsAreNamed) {
  const TempDir folder;
  std::filesystem::copy(GoldenFolder("llama3") + "/tokenizer.json",
                        folder.path() + "/tokenizer.json");
  folder.Write("tokenizer_config.json", "nonsense");
  const auto tokenizer = Tokenizer::Load(folder.path());
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("tokenizer_config.json"));
}

}  // namespace
}  // namespace tramontane
