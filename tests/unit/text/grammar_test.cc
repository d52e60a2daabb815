#include "text/grammar.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using nlohmann::json;

constexpr char kPerson[] = R"({"type": "object", "properties": {
    "name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 0,
    "maximum": 120}, "tags": {"type": "array", "items": {"enum": ["a", "b\"c"]}, "maxItems": 2}},
    "required": ["name", "age"], "additionalProperties": false})";

class GrammarTest : public testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
    compiler_ = std::make_unique<GrammarCompiler>(tokenizer_, kVocab);
  }

  std::shared_ptr<const Grammar> Compiled(bool is_regex, const std::string& text) {
    auto grammar = compiler_->Compile({is_regex, text});
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    return grammar.ok() ? *grammar : nullptr;
  }

  // Draws evenly among what is allowed; empty when 4000 tokens do not make a whole.
  std::string Draw(const Grammar& grammar, uint32_t seed) {
    std::mt19937 random(seed);
    GrammarState state = *grammar.Start();
    std::vector<int32_t> tokens;
    while (tokens.size() < 4000) {
      EXPECT_TRUE(state.Advance().ok());
      std::vector<int32_t> allowed;
      for (int32_t t = 0; t < kVocab; ++t) {
        if (state.Allows(t)) allowed.push_back(t);
      }
      const size_t choices = allowed.size() + (state.MayEnd() ? 1 : 0);
      if (choices == 0) break;
      const size_t choice = random() % choices;
      if (choice == allowed.size()) return tokenizer_->Decode(tokens, false).value();
      tokens.push_back(allowed[choice]);
      const auto complete = state.Accept(tokens.back());
      EXPECT_TRUE(complete.ok()) << complete.status();
      if (!complete.ok() || *complete) return tokenizer_->Decode(tokens, false).value();
    }
    return "";
  }

  // How many tokens of `text` are allowed, one after the other, and whether it may end there.
  std::pair<size_t, bool> Follow(const Grammar& grammar, const std::string& text) {
    GrammarState state = *grammar.Start();
    const std::vector<int32_t> tokens = tokenizer_->Encode(text, false).value();
    bool complete = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_TRUE(state.Advance().ok());
      if (complete || !state.Allows(tokens[i])) return {i, false};
      complete = state.Accept(tokens[i]).value();
    }
    EXPECT_TRUE(state.Advance().ok());
    return {tokens.size(), complete || state.MayEnd()};
  }

  static constexpr int32_t kVocab = 264;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<GrammarCompiler> compiler_;
};

TEST_F(GrammarTest, WhateverIsDrawnFromASchemaIsSuchADocument) {
  const auto grammar = Compiled(false, kPerson);
  std::set<std::string> texts;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const std::string text = Draw(*grammar, seed);
    const json drawn = json::parse(text, nullptr, false);
    ASSERT_TRUE(drawn.is_object()) << text;
    EXPECT_TRUE(drawn["name"].is_string()) << text;
    EXPECT_TRUE(drawn["age"].is_number_integer() && drawn["age"] >= 0 && drawn["age"] <= 120)
        << text;
    for (const auto& [key, value] : drawn.items())
      EXPECT_TRUE(key == "name" || key == "age" || key == "tags") << text;
    texts.insert(text);
  }
  EXPECT_GT(texts.size(), 30u);  // two samples of one grammar do not share where they stand
}

TEST_F(GrammarTest, ASchemaAllowsWhatItDescribesAndStopsAtTheFirstWrongByte) {
  const auto grammar = Compiled(false, kPerson);
  const std::string good = R"({"name": "Ann", "age": 30, "tags": ["b\"c"]})";
  const size_t size = tokenizer_->Encode(good, false)->size();
  EXPECT_EQ(Follow(*grammar, good), std::make_pair(size, true));
  EXPECT_FALSE(Follow(*grammar, good + "x").second);
  const std::string wrong = R"({"name": "Ann", "age": 1300)";
  EXPECT_LT(Follow(*grammar, wrong).first, tokenizer_->Encode(wrong, false)->size());
  EXPECT_FALSE(Follow(*grammar, R"({"age": 30})").second);
}

TEST_F(GrammarTest, ARegularExpressionMatchesTheWholeText) {
  const auto grammar = Compiled(true, "(yes|no), [0-9]{2}");
  EXPECT_TRUE(Follow(*grammar, "yes, 42").second);
  EXPECT_FALSE(Follow(*grammar, "yes, 4").second);
  EXPECT_EQ(Follow(*grammar, "maybe").first, 0u);
  for (uint32_t seed = 0; seed < 10; ++seed) EXPECT_GE(Draw(*grammar, seed).size(), 6u);
}

TEST_F(GrammarTest, SpecialTokensAreNoText) {
  const auto grammar = Compiled(true, ".*");
  GrammarState state = *grammar->Start();
  ASSERT_TRUE(state.Advance().ok());
  EXPECT_TRUE(state.MayEnd());
  EXPECT_TRUE(state.Allows(tokenizer_->TokenId("a")));
  EXPECT_FALSE(state.Allows(tokenizer_->TokenId("<|im_end|>")));
  EXPECT_FALSE(state.Allows(kVocab));
}

TEST_F(GrammarTest, WhatCannotBeCompiledIsRefused) {
  for (const char* schema :
       {"{", R"({"type": "nonsense"})", R"({"$ref": "https://example.com/a.json"})",
        R"({"type": "string", "pattern": "("})",
        R"({"minimum": 3, "maximum": 1, "type": "integer"})",
        R"({"if": {"type": "string"}, "then": {"minLength": 2}})"}) {
    const auto grammar = compiler_->Compile({false, schema});
    EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << schema;
  }
  for (const char* regex : {"(", "[z-a]", "(?=a)b"}) {
    const auto grammar = compiler_->Compile({true, regex});
    EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << regex;
  }
}

}  // namespace
}  // namespace tramontane
