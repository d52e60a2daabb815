// `generate` and `eval` as functions, over a tiny model folder; the grader is the test's.
#include "generator/tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <utility>

#include "model/init.h"
#include "tests/support/source_file.h"
#include "text/tokenizer.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

const std::string kTokenizer = SourceFile("examples/demo/tokenizer");

class ToolsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = std::filesystem::temp_directory_path() / "tools_test_XXXXXX";
    dir_ = ::mkdtemp(name.data());
    const Json config = {{"model_type", "llama"},         {"hidden_size", 32},
                         {"intermediate_size", 64},       {"num_hidden_layers", 1},
                         {"num_attention_heads", 2},      {"num_key_value_heads", 1},
                         {"max_position_embeddings", 64}, {"rms_norm_eps", 1e-6},
                         {"eos_token_id", 258},           {"tie_word_embeddings", true}};
    const auto made = InitModel(config, kTokenizer, dir_, /*seed=*/3);
    ASSERT_TRUE(made.ok()) << made.status();
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(dir_); }

  static Json Rollouts(const Json& in) {
    const auto out = GenerateTool(dir_, in, {}, {});
    EXPECT_TRUE(out.ok()) << out.status();
    return out.ok() ? (*out)["rollouts"] : Json::array();
  }
  static std::string Refusal(const Json& in) {
    return GenerateTool(dir_, in, {}, {}).status().ToString();
  }

  static PromptRow Row(const std::string& id, const std::string& verifier,
                       Json params = Json::object()) {
    PromptRow row;
    row.row_id = id;
    row.prompt_tokens = {static_cast<int32_t>('1'), static_cast<int32_t>('=')};
    row.verifier = verifier;
    row.params = std::move(params);
    return row;
  }
  static absl::StatusOr<Json> Evaluate(const std::vector<PromptRow>& rows,
                                       const GradeFunction& grade, int32_t samples = 2) {
    SamplingParams sampling;
    sampling.max_new_tokens = 4;
    return EvalTool(dir_, rows, sampling, samples, Json(), {}, grade, {});
  }

  static inline std::string dir_;
};

TEST_F(ToolsTest, EveryPromptGetsItsSamplesInOrder) {
  const Json rollouts =
      Rollouts({{"prompts", {"1+1=", "2+2="}}, {"n", 3}, {"max_new_tokens", 5}, {"seed", 7}});
  ASSERT_EQ(rollouts.size(), 6u);
  for (size_t i = 0; i < rollouts.size(); ++i) {
    EXPECT_EQ(rollouts[i]["prompt_index"], i / 3);
    EXPECT_EQ(rollouts[i]["sample_index"], i % 3);
    EXPECT_LE(rollouts[i]["tokens"].size(), 5u);
    EXPECT_GE(rollouts[i]["tokens"].size(), 1u);
    EXPECT_EQ(rollouts[i]["logprobs"].size(), rollouts[i]["tokens"].size());
  }
}

TEST_F(ToolsTest, ATextAndItsTokensAreTheSamePrompt) {
  const std::string text = "12+34=";
  const auto ids =
      (*Tokenizer::Load(kTokenizer))->Encode(text, /*add_special_tokens=*/true).value();
  const Json rollouts =
      Rollouts({{"prompts", {text, ids}}, {"temperature", 0}, {"max_new_tokens", 8}});
  ASSERT_EQ(rollouts.size(), 2u);
  EXPECT_EQ(rollouts[0]["tokens"], rollouts[1]["tokens"]);
}

TEST_F(ToolsTest, APromptsSamplesDependOnItsSeedAlone) {
  const Json both = Rollouts({{"prompts", {"9", "8+"}}, {"max_new_tokens", 12}, {"seed", 4}});
  const Json second = Rollouts({{"prompts", {"8+"}}, {"max_new_tokens", 12}, {"seed", 5}});
  EXPECT_EQ(both[1]["tokens"], second[0]["tokens"]);  // prompt p draws with seed + p
  EXPECT_NE(both[1]["tokens"],
            Rollouts({{"prompts", {"8+"}}, {"max_new_tokens", 12}, {"seed", 6}})[0]["tokens"]);
}

TEST_F(ToolsTest, WhatCannotBeMeantIsRefusedByName) {
  EXPECT_THAT(Refusal({{"prompts", {"a"}}, {"max_tokens", 3}}), HasSubstr("max_tokens"));
  EXPECT_THAT(Refusal({{"max_new_tokens", 3}}), HasSubstr("prompts"));
  EXPECT_THAT(Refusal({{"prompts", {"a", 7}}, {"max_new_tokens", 3}}), HasSubstr("prompts[1]"));
  EXPECT_THAT(Refusal({{"prompts", {Json::array({-1})}}, {"max_new_tokens", 3}}),
              HasSubstr("prompts[0]"));
  EXPECT_THAT(Refusal({{"prompts", {"a"}}, {"n", "two"}, {"max_new_tokens", 3}}),
              HasSubstr("n must be"));
  EXPECT_THAT(Refusal(Json::array()), HasSubstr("object"));
}

// The row's id says what its verifier does.
absl::StatusOr<Verdict> Scripted(const PromptRow& row, const Rollout& rollout) {
  Verdict verdict;
  verdict.status = VerdictStatus::kScored;
  if (row.row_id == "half") {
    verdict.correct = rollout.sample_index == 0;
    verdict.score = verdict.correct ? 1 : 0.25;
  } else if (row.row_id == "wrong") {
    verdict.status = VerdictStatus::kPolicyFailure;
    verdict.score = 0;
  } else if (row.row_id == "away") {
    verdict.status = VerdictStatus::kInfraFailure;
  } else {
    return absl::InternalError("the grader fell over");
  }
  return verdict;
}

TEST_F(ToolsTest, AccuracyIsTakenOverWhatWasScoredInAllAndByKind) {
  const auto out = Evaluate({Row("half", "math", {{"kind", "addition"}}),
                             Row("wrong", "math", {{"kind", 3}}), Row("away", "remote")},
                            Scripted);
  ASSERT_TRUE(out.ok()) << out.status();
  const Json& result = *out;
  EXPECT_EQ(result["prompts"], 3);
  EXPECT_EQ(result["samples"], 6);
  EXPECT_EQ(result["failures"], 2);  // neither right nor wrong
  EXPECT_EQ(result["accuracy"], 0.25);
  EXPECT_EQ(result["mean_reward"], (1 + 0.25 + 0 + 0) / 4);
  EXPECT_LE(result["mean_tokens"], 4.0);
  ASSERT_EQ(result["kinds"].size(), 3u);
  EXPECT_EQ(result["kinds"]["addition"]["accuracy"], 0.5);
  EXPECT_EQ(result["kinds"]["math"]["accuracy"], 0.0);  // its kind is no text: the verifier's name
  EXPECT_TRUE(result["kinds"]["remote"]["accuracy"].is_null());
  EXPECT_EQ(result["kinds"]["remote"]["samples"], 2);
}

TEST_F(ToolsTest, AGraderThatFailsNamesTheRow) {
  const auto out = Evaluate({Row("half", "math"), Row("train.jsonl:9", "math")}, Scripted);
  EXPECT_EQ(out.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(out.status().message()),
              HasSubstr("train.jsonl:9: the grader fell over"));
}

}  // namespace
}  // namespace tramontane
