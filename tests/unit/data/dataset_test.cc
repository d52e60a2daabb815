#include "data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/json_lines.h"
#include "tests/support/source_file.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/text/golden.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = SourceFile("examples/demo/tokenizer");
    auto tokenizer = Tokenizer::Load(folder);
    auto chat_template = ChatTemplate::Load(folder);
    ASSERT_TRUE(tokenizer.ok() && chat_template.ok());
    tokenizer_ = *tokenizer;
    chat_template_ = *chat_template;
  }
  absl::StatusOr<std::vector<PromptRow>> Load(const std::string& lines,
                                              const DataSection& data = {}) {
    folder_.Write("rows.jsonl", lines);
    return LoadPrompts(folder_.path() + "/rows.jsonl", data, *tokenizer_, chat_template_.get());
  }
  std::string Message(const std::string& lines, const DataSection& data = {}) {
    const auto rows = Load(lines, data);
    EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument) << lines;
    return std::string(rows.status().message());
  }

  TempDir folder_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> chat_template_;
};

TEST_F(DatasetTest, ReadsItsOwnRows) {
  const auto rows = Load(
      "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n\n"
      "{\"id\": \"b\", \"prompt\": \"2+2=\", \"answer\": \"4\", \"verifier\": \"exact\", "
      "\"params\": {\"k\": 1}}");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  const PromptRow& first = (*rows)[0];
  EXPECT_EQ(first.row_id, "rows.jsonl:1");
  EXPECT_EQ(first.prompt, "1+2=");
  EXPECT_EQ(first.prompt_tokens, (std::vector<int32_t>{16, 10, 17, 28}));
  EXPECT_EQ(first.answer, "3");
  EXPECT_EQ(first.verifier, "math");
  EXPECT_EQ(first.params, Json::object());
  EXPECT_TRUE(first.messages.empty());
  EXPECT_EQ((*rows)[1].row_id, "b");
  EXPECT_EQ((*rows)[1].verifier, "exact");
  EXPECT_EQ((*rows)[1].params, Json({{"k", 1}}));
}

TEST_F(DatasetTest, WhatACheckFindsIsNamedByFileAndLine) {
  const std::string lines =
      "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n\n"
      "{\"id\": \"b\", \"prompt\": \"2+2=\", \"answer\": \"4\", \"verifier\": \"exact\"}\n";
  folder_.Write("rows.jsonl", lines);
  const std::string path = folder_.path() + "/rows.jsonl";
  RunConfig config;
  config.verifiers = {{"math", {}}};
  const RowCheck check = [&](const PromptRow& row) { return CheckVerifierOf(row, config); };
  const std::string expected = path + ":3: verifier 'exact' is not in `verifiers`";
  EXPECT_EQ(LoadPrompts(path, {}, *tokenizer_, nullptr, check).status().message(), expected);
  EXPECT_EQ(CheckRows(path, {}, check).message(), expected);
  config.verifiers["exact"] = {};
  EXPECT_TRUE(CheckRows(path, {}, check).ok());
}

TEST_F(DatasetTest, ReadsVerlRows) {
  const auto rows =
      Load(R"({"data_source": "gsm8k", "prompt": [{"role": "user", "content": "q"}], )"
           R"("ability": "math", "reward_model": {"style": "rule", "ground_truth": "72"}, )"
           R"("extra_info": {"index": 5}})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  const PromptRow& row = (*rows)[0];
  EXPECT_EQ(row.answer, "72");
  EXPECT_EQ(row.prompt, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(row.prompt_tokens.front(), 257);
  EXPECT_EQ(row.messages, (std::vector<PromptMessage>{{"user", "q"}}));
  EXPECT_EQ(row.params["data_source"], "gsm8k");
  EXPECT_EQ(row.params["extra_info"]["index"], 5);
}

TEST_F(DatasetTest, ReadsTrlOpenRlhfAndVerifiersRows) {
  auto rows = Load(R"({"prompt": "p", "solution": "7", "level": 3})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ((*rows)[0].answer, "7");
  EXPECT_EQ((*rows)[0].params, Json({{"level", 3}}));
  rows = Load(R"({"input": "p", "label": "8"})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ((*rows)[0].answer, "8");
  EXPECT_EQ((*rows)[0].prompt, "p");
  rows = Load(R"({"question": "p", "answer": "9", "info": {"a": 1}, "task": "t"})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ((*rows)[0].answer, "9");
  EXPECT_EQ((*rows)[0].params, Json({{"info", {{"a", 1}}}, {"task", "t"}}));
}

TEST_F(DatasetTest, TheConfiguredShapeWins) {
  DataSection data;
  data.shape = "openrlhf";
  EXPECT_THAT(Message(R"({"question": "p", "answer": "9"})", data),
              HasSubstr("input or prompt: missing"));
  data.shape = "parquet";
  EXPECT_THAT(Message(R"({"prompt": "p", "answer": "9"})", data), HasSubstr("data.shape"));
}

TEST_F(DatasetTest, PlainPromptsMayUseTheTemplate) {
  DataSection data;
  data.apply_chat_template = true;
  const auto rows = Load(R"({"prompt": "hi", "answer": "x"})", data);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ((*rows)[0].prompt, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

TEST_F(DatasetTest, MessagesNeedATemplate) {
  folder_.Write("rows.jsonl",
                R"({"messages": [{"role": "user", "content": "hi"}], "answer": "x"})");
  const auto rows = LoadPrompts(folder_.path() + "/rows.jsonl", {}, *tokenizer_, nullptr);
  EXPECT_THAT(std::string(rows.status().message()), HasSubstr("rows.jsonl:1: messages"));
}

TEST_F(DatasetTest, BadRowsNameLineAndField) {
  const std::string good = "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n";
  const std::pair<const char*, const char*> cases[] = {
      {"{\"prompt\": \"x\"}", "rows.jsonl:2: answer: missing"},
      {"{\"prompt\": \"x\", \"answer\": \"\"}", "rows.jsonl:2: answer: empty"},
      {"{\"prompt\": \"x\", \"answer\": 3}", "rows.jsonl:2: answer: expected text, got number"},
      {"{\"prompt\": \"\", \"answer\": \"3\"}", "rows.jsonl:2: prompt: empty"},
      {"{\"prompt\": 5, \"answer\": \"3\"}", "rows.jsonl:2: prompt: expected text"},
      {"{\"answer\": \"3\"}", "rows.jsonl:2: prompt: missing"},
      {"{\"prompt\": \"x\", \"answer\": \"3\", \"anwser\": \"4\"}",
       "rows.jsonl:2: anwser: unknown key"},
      {"{\"prompt\": \"x\", \"messages\": [], \"answer\": \"3\"}",
       "rows.jsonl:2: messages: given beside"},
      {"{\"messages\": [], \"answer\": \"3\"}", "rows.jsonl:2: messages: empty"},
      {"{\"messages\": [{}], \"answer\": \"3\"}", "rows.jsonl:2: messages[0].role"},
      {"{\"prompt\": \"x\", \"answer\": \"3\", \"params\": 1}", "rows.jsonl:2: params"},
      {"{\"prompt\": \"x\", \"answer\": \"3\", \"id\": \"rows.jsonl:1\"}", "rows.jsonl:2: id"},
      {"{\"prompt\": \"x\"", "rows.jsonl:2: bad JSON"},
      {"{\"prompt\": \"\xff\", \"answer\": \"3\"}", "rows.jsonl:2: bad JSON"},
      {"[1]", "rows.jsonl:2: expected a JSON object"},
  };
  for (const auto& [line, message] : cases) {
    EXPECT_THAT(Message(good + line), HasSubstr(message)) << line;
  }
  EXPECT_THAT(Message("\n \n"), HasSubstr("no rows"));
  EXPECT_THAT(Message(R"({"data_source": "d", "prompt": "p", "reward_model": {}})"),
              HasSubstr("rows.jsonl:1: reward_model.ground_truth: missing"));
}

TEST_F(DatasetTest, APromptMustGiveTokens) {
  const std::string demo = SourceFile("examples/demo/tokenizer/tokenizer.json");
  std::ifstream file(demo);
  Json spec = Json::parse(file);
  spec["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  folder_.Write("model/tokenizer.json", spec.dump());
  const auto stripping = Tokenizer::Load(folder_.path() + "/model");
  ASSERT_TRUE(stripping.ok()) << stripping.status();
  folder_.Write("rows.jsonl", "{\"prompt\": \"  \", \"answer\": \"1\"}");
  const auto rows = LoadPrompts(folder_.path() + "/rows.jsonl", {}, **stripping, nullptr);
  EXPECT_THAT(rows.status().ToString(), HasSubstr("rows.jsonl:1: prompt: gives no tokens"));
}

TEST_F(DatasetTest, DepthAndLengthAreBounded) {
  std::string deep = "{\"prompt\": \"x\", \"answer\": \"1\", \"params\": {\"a\": ";
  deep += std::string(100000, '[') + std::string(100000, ']') + "}}";
  EXPECT_THAT(Message(deep), HasSubstr("rows.jsonl:1: JSON nested deeper"));
  folder_.Write("long.jsonl", "{}\n" + std::string(100, ' ') + "{}\n");
  JsonLinesLimits limits;
  limits.max_line_bytes = 50;
  const absl::Status status = ForEachJsonLine(folder_.path() + "/long.jsonl", limits,
                                              [](size_t, const auto&) { return absl::OkStatus(); });
  EXPECT_THAT(std::string(status.message()), HasSubstr("long.jsonl:2: line longer than 50 bytes"));
}

TEST_F(DatasetTest, AMissingFileIsNamed) {
  const auto rows = LoadPrompts("/no/such.jsonl", {}, *tokenizer_, nullptr);
  EXPECT_FALSE(rows.ok());
  EXPECT_THAT(std::string(rows.status().message()), HasSubstr("/no/such.jsonl"));
}

TEST_F(DatasetTest, SftCompletionsEndWithTheEndToken) {
  folder_.Write("sft.jsonl",
                "{\"prompt\": \"1+2=\", \"completion\": \"<think>a</think>3\"}\n"
                "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}], \"completion\": "
                "\"b<|im_end|>\"}\n");
  const std::string path = folder_.path() + "/sft.jsonl";
  const auto examples = LoadSftExamples(path, *tokenizer_, chat_template_.get(), 258);
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].completion_tokens, (std::vector<int32_t>{259, 64, 260, 18, 258}));
  EXPECT_EQ((*examples)[1].completion_tokens, (std::vector<int32_t>{65, 258}));
  EXPECT_EQ((*examples)[1].prompt_tokens.front(), 257);
  EXPECT_FALSE(LoadSftExamples(path, *tokenizer_, chat_template_.get(), -1).ok());
  folder_.Write("sft.jsonl", "{\"prompt\": \"1+2=\"}");
  EXPECT_THAT(LoadSftExamples(path, *tokenizer_, nullptr, 258).status().ToString(),
              HasSubstr("sft.jsonl:1: completion: missing"));
}

TEST_F(DatasetTest, SampledIdsCountWhereTheTokenizerIsTheSame) {
  const std::string ids =
      "\"prompt\": \"1+2=\", \"completion\": \"12\", \"prompt_tokens\": [16, 10], "
      "\"completion_tokens\": [17, 28]";
  folder_.Write("sft.jsonl", "{" + ids + ", \"tokenizer\": \"" + tokenizer_->sha256() + "\"}\n{" + ids +
                                 ", \"tokenizer\": \"another\"}\n");
  const std::string path = folder_.path() + "/sft.jsonl";
  const auto examples = LoadSftExamples(path, *tokenizer_, nullptr, 258);
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)[0].prompt_tokens, (std::vector<int32_t>{16, 10}));
  EXPECT_EQ((*examples)[0].completion_tokens, (std::vector<int32_t>{17, 28, 258}));
  EXPECT_EQ((*examples)[1].prompt_tokens, (std::vector<int32_t>{16, 10, 17, 28}));
  EXPECT_EQ((*examples)[1].completion_tokens, (std::vector<int32_t>{16, 17, 258}));
  folder_.Write("sft.jsonl", "{\"prompt\": \"1\", \"completion\": \"2\", \"completion_tokens\": [-1], "
                             "\"tokenizer\": \"" + tokenizer_->sha256() + "\"}");
  EXPECT_THAT(LoadSftExamples(path, *tokenizer_, nullptr, 258).status().ToString(),
              HasSubstr("sft.jsonl:1: completion_tokens: expected a list of token ids"));
}

TEST_F(DatasetTest, ReadsPreferencePairs) {
  folder_.Write("pairs.jsonl",
                "{\"prompt\": \"1+2=\", \"chosen\": \"1\", \"rejected\": \"2\"}\n{\"prompt\": \"1\", "
                "\"chosen\": \"2\"}\n");
  const std::string path = folder_.path() + "/pairs.jsonl";
  EXPECT_THAT(LoadPreferencePairs(path, *tokenizer_, nullptr, 258).status().ToString(),
              HasSubstr("pairs.jsonl:2: rejected: missing"));
  folder_.Write("pairs.jsonl", "{\"prompt\": \"1+2=\", \"chosen\": \"1\", \"rejected\": \"2\"}\n");
  const auto pairs = LoadPreferencePairs(path, *tokenizer_, nullptr, 258);
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  EXPECT_EQ((*pairs)[0].prompt_tokens, (std::vector<int32_t>{16, 10, 17, 28}));
  EXPECT_EQ((*pairs)[0].chosen_tokens, (std::vector<int32_t>{16, 258}));
  EXPECT_EQ((*pairs)[0].rejected_tokens, (std::vector<int32_t>{17, 258}));
}

}  // namespace
}  // namespace tramontane
