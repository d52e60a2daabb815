// Training rows out of a tiny model's responses: held against its plain samples, and read back.
#include "generator/data_tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>

#include "common/files.h"
#include "data/dataset.h"
#include "model/init.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

const std::string kDataTokenizer = SourceFile("examples/demo/tokenizer");

// Correct: an even number of tokens. No score at all where the row's answer says so.
absl::StatusOr<Verdict> EvenLength(const PromptRow& row, const Rollout& rollout) {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  if (row.answer == "none") return verdict;
  verdict.status = VerdictStatus::kScored;
  verdict.correct = rollout.tokens.size() % 2 == 0;
  verdict.score = verdict.correct;
  return verdict;
}

class DataTool : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = std::filesystem::temp_directory_path() / "data_tool_test_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    const Json config = {
        {"model_type", "llama"},          {"hidden_size", 32},        {"intermediate_size", 64},
        {"num_hidden_layers", 1},         {"num_attention_heads", 2}, {"num_key_value_heads", 1},
        {"max_position_embeddings", 256}, {"rms_norm_eps", 1e-6},     {"eos_token_id", 258},
        {"tie_word_embeddings", true}};
    ASSERT_TRUE(InitModel(config, kDataTokenizer, folder_, /*seed=*/3).ok());
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }

  void SetUp() override {
    hooks_.answer = [](const std::string& text) {
      return text.empty() ? std::nullopt : std::optional(std::string(text[0] % 2 ? "odd" : "even"));
    };
    hooks_.same = [](const std::string& a, const std::string& b) { return a == b; };
    sampling_.max_new_tokens = 200;
    sampling_.seed = 11;
    for (int i = 0; i < 6; ++i) {
      PromptRow row;
      row.row_id = "row-" + std::to_string(i);
      row.prompt = std::to_string(i) + "+1=";
      row.prompt_tokens.assign(row.prompt.begin(), row.prompt.end());
      row.answer = "7";
      row.verifier = "math";
      if (i % 2 == 1) row.messages = {{"user", row.prompt}};
      rows_.push_back(row);
    }
  }

  MadeData Make(DataOptions options) {
    auto made = MakeData(folder_, rows_, sampling_, options, {}, EvenLength, hooks_);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *made : MadeData();
  }
  static std::string Lines(const MadeData& made) {
    std::string lines;
    for (const Json& row : made.rows)
      lines += row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    const std::string path = folder_ + "/rows.jsonl";
    EXPECT_TRUE(WriteFileAtomic(path, lines).ok());
    return path;
  }
  std::vector<std::vector<Rollout>> Plain(int32_t samples) {
    return *RunBatch(*LoadModel(folder_), Prompts(), sampling_, samples, {});
  }
  std::vector<std::vector<int32_t>> Prompts() const {
    std::vector<std::vector<int32_t>> prompts;
    for (const PromptRow& row : rows_) prompts.push_back(row.prompt_tokens);
    return prompts;
  }

  static inline std::string folder_;
  SearchHooks hooks_;
  SamplingParams sampling_;
  std::vector<PromptRow> rows_;
};

TEST_F(DataTool, SftRowsAreTheShortestCorrectOfThePlainSamples) {
  rows_[2].answer = "none";
  const MadeData made = Make({.kind = "sft", .samples = 6});
  std::map<std::string, std::string> completions;
  for (const Json& row : made.rows) completions[row["id"]] = row["completion"];
  const auto plain = Plain(6);
  size_t expected = 0;
  for (size_t p = 0; p < rows_.size(); ++p) {
    const Rollout* best = nullptr;
    for (const Rollout& rollout : plain[p]) {
      const bool good = rollout.finish_reason == FinishReason::kStop && !rollout.text.empty() &&
                        rollout.tokens.size() % 2 == 0 && p != 2;
      if (good && (best == nullptr || rollout.tokens.size() < best->tokens.size())) best = &rollout;
    }
    expected += best != nullptr;
    const auto found = completions.find(rows_[p].row_id);
    ASSERT_EQ(found != completions.end(), best != nullptr) << p;
    if (best != nullptr) {
      EXPECT_EQ(found->second, best->text);
    }
  }
  ASSERT_GT(expected, 2u);
  EXPECT_GT(made.summary["failures"], 0);
  const auto tokenizer = Tokenizer::Load(kDataTokenizer);
  const auto chat = ChatTemplate::Load(kDataTokenizer);
  const auto read = LoadSftExamples(Lines(made), **tokenizer, chat->get(), 258);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->size(), expected);
}

TEST_F(DataTool, LabelsAreTheMajoritysAnswersWhereEnoughAgree) {
  const MadeData all = Make({.kind = "labels", .samples = 5, .min_agreement = 0});
  ASSERT_EQ(all.rows.size(), rows_.size());
  const auto plain = Plain(5);
  for (size_t p = 0; p < rows_.size(); ++p) {
    int32_t even = 0, answers = 0;
    for (const Rollout& rollout : plain[p]) {
      answers += !rollout.text.empty();
      even += !rollout.text.empty() && rollout.text[0] % 2 == 0;
    }
    const int32_t most = std::max(even, answers - even);
    EXPECT_EQ(all.rows[p]["params"]["agreement"], most / 5.0);
    if (2 * even != answers) {
      EXPECT_EQ(all.rows[p]["answer"], 2 * even > answers ? "even" : "odd");
    }
  }
  const MadeData sure = Make({.kind = "labels", .samples = 5, .min_agreement = 0.9});
  for (const Json& row : sure.rows) EXPECT_EQ(row["params"]["agreement"], 1.0);
  EXPECT_LT(sure.rows.size(), rows_.size());
  const auto tokenizer = Tokenizer::Load(kDataTokenizer);
  const auto chat = ChatTemplate::Load(kDataTokenizer);
  const auto read = LoadPrompts(Lines(all), DataSection(), **tokenizer, chat->get());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[0].answer, all.rows[0]["answer"]);
}

TEST_F(DataTool, ValuesAreSharesOfCorrectContinuationsAndTheLastIsTheVerdict) {
  const auto plain = Plain(1);
  // The commonest byte of the responses ends their steps.
  std::string all, step;
  for (const auto& rollouts : plain) all += rollouts[0].text;
  for (char c = '!'; c <= '~'; ++c)
    if (step.empty() || std::ranges::count(all, c) > std::ranges::count(all, step[0])) step = c;
  const MadeData made = Make({.kind = "values", .samples = 4, .step_end = step, .max_steps = 6});
  std::map<std::string, std::vector<Json>> by_prompt;
  for (const Json& row : made.rows) {
    const std::string id = row["id"];
    by_prompt[id.substr(0, id.find('#'))].push_back(row);
    EXPECT_EQ(row["value"].get<double>(),
              row["correct"].get<double>() / row["continuations"].get<double>());
  }
  std::set<double> values;
  for (size_t p = 0; p < rows_.size(); ++p) {
    const auto& steps = by_prompt[rows_[p].row_id];
    ASSERT_FALSE(steps.empty());
    std::string before;
    for (const Json& row : steps) {
      const std::string text = row["completion"];
      EXPECT_TRUE(text.starts_with(before));
      before = text;
      values.insert(row["value"].get<double>());
    }
    EXPECT_EQ(before, plain[p][0].text);  // the response is plain sampling
    EXPECT_EQ(steps.back()["continuations"], 1);
    EXPECT_EQ(steps.back()["value"], plain[p][0].tokens.size() % 2 == 0 ? 1.0 : 0.0);
  }
  EXPECT_GT(made.rows.size(), rows_.size() + 2);  // some have several steps
  EXPECT_GT(values.size(), 2u);
  const auto tokenizer = Tokenizer::Load(kDataTokenizer);
  const auto chat = ChatTemplate::Load(kDataTokenizer);
  const std::string path = Lines(made);
  EXPECT_TRUE(LoadSftExamples(path, **tokenizer, chat->get(), 258).ok());
  const auto prompts = LoadPrompts(path, DataSection(), **tokenizer, chat->get());
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_EQ((*prompts)[0].params["value"], made.rows[0]["value"]);
}

TEST_F(DataTool, OneThinkingBudgetHoldsOverABeginningAndItsContinuations) {
  for (PromptRow& row : rows_) row.prompt_tokens.push_back(259);  // <think>
  sampling_.thinking = ThinkingParams{.budget = 12, .on_exhaust = "cwm"};
  const auto plain = Plain(1);
  std::string step;  // ends steps within thoughts
  for (const char c : plain[0][0].text.substr(0, 12))
    if (step.empty() && c >= '!' && c <= '~') step = c;
  ASSERT_FALSE(step.empty());
  std::mutex mutex;
  int64_t used_up = 0, judged = 0;
  const auto within = [&](const PromptRow& row, const Rollout& rollout) {
    std::lock_guard lock(mutex);
    EXPECT_LE(rollout.usage.thinking, 12);
    used_up +=
        rollout.usage.thinking == 12 && rollout.text.find("...</think>") != std::string::npos;
    ++judged;
    return EvenLength(row, rollout);
  };
  for (const std::string kind : {"sft", "values"}) {
    used_up = judged = 0;
    const DataOptions options{.kind = kind, .samples = 4, .step_end = step, .max_steps = 4};
    const auto made = MakeData(folder_, rows_, sampling_, options, {}, within, hooks_);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_GT(judged, kind == "values" ? 12 : 4) << kind;  // some prompts have several steps
    EXPECT_GT(used_up, judged / 2) << kind;
  }
}

TEST_F(DataTool, WhatCannotBeMeantIsRefusedByName) {
  for (const auto& [options, field] :
       {std::pair{DataOptions{.kind = "poems"}, "kind"},
        {DataOptions{.samples = 0}, "samples"},
        {DataOptions{.kind = "values", .step_end = ""}, "step_end"},
        {DataOptions{.kind = "values", .max_steps = 0}, "max_steps"},
        {DataOptions{.kind = "labels", .min_agreement = 2}, "min_agreement"}}) {
    const absl::Status status =
        MakeData(folder_, rows_, sampling_, options, {}, EvenLength, hooks_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
}

}  // namespace
}  // namespace tramontane
