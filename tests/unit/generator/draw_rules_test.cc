#include "generator/draw_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/support/source_file.h"

namespace tramontane {
namespace {

constexpr int32_t kVocab = 264;

class DrawRulesTest : public testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = *Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
    end_ = tokenizer_->TokenId("<|im_end|>");
  }

  DrawRules Regex(const std::string& regex, int32_t after = -1) {
    GrammarCompiler compiler(tokenizer_, kVocab);
    return {.grammar = *compiler.Compile({true, regex}), .grammar_after_token = after};
  }
  int32_t Id(char c) { return tokenizer_->TokenId(std::string(1, c)); }
  std::vector<int32_t> Ids(const RuledDraw::Row& row) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < row.logits.size(); ++i) ids.push_back(row.IdOf(static_cast<int32_t>(i)));
    return ids;
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
  int32_t end_ = -1;
  const std::vector<float> row_ = [] {
    std::vector<float> row(kVocab);
    for (int32_t i = 0; i < kVocab; ++i) row[static_cast<size_t>(i)] = static_cast<float>(i);
    return row;
  }();
};

TEST_F(DrawRulesTest, BiasesAreAddedAndNothingElseChanges) {
  RuledDraw draw({.logit_bias = {{5, 2.5f}, {7, -100}}}, {end_});
  const RuledDraw::Row row = *draw.Apply(row_);
  ASSERT_EQ(row.logits.size(), row_.size());
  for (size_t i = 0; i < row_.size(); ++i) {
    EXPECT_EQ(row.IdOf(static_cast<int32_t>(i)), static_cast<int32_t>(i));
    EXPECT_EQ(row.logits[i], row_[i] + (i == 5 ? 2.5f : i == 7 ? -100 : 0));
  }
}

TEST_F(DrawRulesTest, OnlyWhatTheGrammarAllowsIsLeftWithItsOwnLogits) {
  RuledDraw draw(Regex("[ab]c?"), {end_});
  RuledDraw::Row row = *draw.Apply(row_);
  EXPECT_EQ(Ids(row), (std::vector<int32_t>{Id('a'), Id('b')}));
  EXPECT_EQ(row.logits[1], row_[static_cast<size_t>(Id('b'))]);
  std::vector<int32_t> response = {Id('b')};
  EXPECT_FALSE(*draw.Follow(response));
  row = *draw.Apply(row_);
  EXPECT_EQ(Ids(row), (std::vector<int32_t>{Id('c'), end_}));  // it may end here, by its end token
  response.push_back(Id('c'));
  EXPECT_TRUE(*draw.Follow(response));  // nothing may follow
}

TEST_F(DrawRulesTest, AnEndTokenIsNotAllowedBeforeTheGrammarMayEnd) {
  // A stop token that is text as well stops only where the text may end.
  RuledDraw draw(Regex("aa"), {end_, Id('a')});
  EXPECT_FALSE(draw.Apply(row_).ok());
}

TEST_F(DrawRulesTest, TheGrammarBeginsBehindItsToken) {
  const int32_t close = tokenizer_->TokenId("</think>");
  RuledDraw draw(Regex("a+", close), {end_});
  EXPECT_EQ(draw.Apply(row_)->logits.size(), row_.size());
  std::vector<int32_t> response = {Id('x'), Id('y')};
  EXPECT_FALSE(*draw.Follow(response));
  EXPECT_EQ(draw.Apply(row_)->logits.size(), row_.size());
  response.insert(response.end(), {close, Id('z')});  // put in together: not the grammar's
  const TokenSpan injected[] = {{2, 2}};
  EXPECT_FALSE(*draw.Follow(response, injected));
  EXPECT_EQ(Ids(*draw.Apply(row_)), std::vector<int32_t>{Id('a')});
  response.push_back(Id('a'));
  EXPECT_FALSE(*draw.Follow(response));
  EXPECT_EQ(Ids(*draw.Apply(row_)), (std::vector<int32_t>{Id('a'), end_}));
}

TEST_F(DrawRulesTest, WhatWasPutInFrontIsNotTheGrammars) {
  const int32_t close = tokenizer_->TokenId("</think>");
  for (const int32_t after : {-1, close}) {  // a closed block of thinking, and then the answer
    RuledDraw draw(Regex("ab", after), {end_});
    std::vector<int32_t> response = {Id('x'), close, Id('y')};
    const TokenSpan injected[] = {{0, 3}};
    EXPECT_FALSE(*draw.Follow(response, injected));
    EXPECT_EQ(Ids(*draw.Apply(row_)), std::vector<int32_t>{Id('a')}) << after;
    response.push_back(Id('a'));
    EXPECT_FALSE(*draw.Follow(response, injected));
    EXPECT_EQ(Ids(*draw.Apply(row_)), std::vector<int32_t>{Id('b')}) << after;
    response.push_back(Id('b'));
    EXPECT_TRUE(*draw.Follow(response, injected));
  }
}

TEST_F(DrawRulesTest, TokensThatAreTakenBackNeverHappened) {
  RuledDraw draw(Regex("ab|ac"), {end_});
  EXPECT_FALSE(*draw.Follow(std::vector<int32_t>{Id('a')}));
  EXPECT_TRUE(*draw.Follow(std::vector<int32_t>{Id('a'), Id('b')}));
  draw.Rewind(1);
  const TokenSpan injected[] = {{1, 1}};
  std::vector<int32_t> response = {Id('a'), Id('x')};
  EXPECT_FALSE(*draw.Follow(response, injected));
  EXPECT_EQ(Ids(*draw.Apply(row_)), (std::vector<int32_t>{Id('b'), Id('c')}));
  response.push_back(Id('c'));
  EXPECT_TRUE(*draw.Follow(response, injected));
}

TEST_F(DrawRulesTest, StopTokensMayComeInAnyOrderAndTwice) {
  RuledDraw draw(Regex("a?"), {end_, Id('b'), end_});
  std::vector<int32_t> expected = {Id('a'), Id('b'), end_};
  std::ranges::sort(expected);
  EXPECT_EQ(Ids(*draw.Apply(row_)), expected);
}

TEST_F(DrawRulesTest, AVocabularyThatCannotGoOnIsAnError) {
  RuledDraw draw(Regex("[ab]"), {end_});
  const std::vector<float> few(static_cast<size_t>(std::min(Id('a'), Id('b'))));
  EXPECT_EQ(draw.Apply(few).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace tramontane
