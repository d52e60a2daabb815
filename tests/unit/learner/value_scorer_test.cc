// A critic that the trainer has saved, as the scorer of searches: its values are the trainer's, and
// they decide what is found.
#include "generator/value_scorer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>

#include "generator/data_tool.h"
#include "generator/search_tool.h"
#include "learner_fixture.h"
#include "model/checkpoint.h"
#include "model/init.h"
#include "model/safetensors.h"
#include "tests/support/source_file.h"
#include "trainer/learner/critic.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int32_t kEos = 258;

class ValueScoring : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = fs::temp_directory_path() / "value_scorer_test_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    model_ = folder_ + "/model";
    ASSERT_TRUE(Init(model_, Json::object(), /*seed=*/3).ok());
    policy_ = LoadTransformer(model_).value();
    RunConfig run = testing::TinyRun();
    run.algorithm.advantage.baseline = "value";
    run.algorithm.auxiliary.value_coefficient = 1;
    run.critic.steps_per_rollout = 1;
    run.trainer.microbatch_tokens = 512;
    critic_ = new Critic(*policy_, run, crew_);
    // Worth of a response: its share of even tokens.
    std::mt19937 rng(1);
    std::vector<std::vector<int32_t>> responses(64, std::vector<int32_t>(12));
    std::vector<TrainRow> rows(responses.size());
    for (int step = 0; step < 30; ++step) {
      for (size_t i = 0; i < rows.size(); ++i) {
        for (int32_t& token : responses[i]) token = static_cast<int32_t>(rng() % 256);
        rows[i].prompt = kPrompt;
        rows[i].response = responses[i];
        rows[i].reward = static_cast<double>(std::ranges::count_if(
                             responses[i], [](int32_t t) { return t % 2 == 0; })) /
                         static_cast<double>(responses[i].size());
      }
      CriticLesson lesson{.rows = rows,
                          .kept = std::vector<uint8_t>(rows.size(), 1),
                          .value_old = critic_->Values(rows).value(),
                          .value_target = SampledValues::Like(rows),
                          .learning_rate = 3e-3};
      for (size_t i = 0; i < rows.size(); ++i)
        for (size_t t = lesson.value_target.first[i]; t < lesson.value_target.first[i + 1]; ++t)
          lesson.value_target.values[t] = rows[i].reward;
      ASSERT_TRUE(critic_->Learn(lesson).ok());
    }
    ASSERT_TRUE(critic_->Save(folder_).ok());
  }
  static void TearDownTestSuite() {
    delete std::exchange(critic_, nullptr);
    policy_.reset();
    fs::remove_all(folder_);
  }

  static absl::Status Init(const std::string& folder, const Json& fields, uint64_t seed) {
    Json config = {
        {"model_type", "llama"},          {"hidden_size", 32},        {"intermediate_size", 64},
        {"num_hidden_layers", 2},         {"num_attention_heads", 2}, {"num_key_value_heads", 1},
        {"max_position_embeddings", 256}, {"rms_norm_eps", 1e-6},     {"eos_token_id", kEos},
        {"tie_word_embeddings", true},    {"initializer_range", 0.12}};
    config.update(fields);
    fs::create_directories(folder);
    return InitModel(config, SourceFile("examples/demo/tokenizer"), folder, seed).status();
  }

  // As the trainer says it: the value at the token behind `tokens`, whatever that is.
  static double TrainersValue(std::vector<int32_t> tokens) {
    tokens.push_back(0);
    TrainRow row;
    row.prompt = kPrompt;
    row.response = tokens;
    return critic_->Values(std::vector<TrainRow>{row}).value().values.back();
  }
  static double TrainersValue(const Rollout& rollout) {
    std::vector<int32_t> tokens = rollout.tokens;
    if (rollout.finish_reason == FinishReason::kStop && tokens.back() == kEos) tokens.pop_back();
    return TrainersValue(tokens);
  }
  static SearchHooks Hooks() {
    SearchHooks hooks;
    hooks.answer = [](const std::string& text) {
      return text.empty() ? std::nullopt : std::optional(text.substr(0, 1));
    };
    hooks.same = [](const std::string& a, const std::string& b) { return a == b; };
    EXPECT_TRUE(AddValueHook(folder_ + "/critic", model_, 1, hooks).ok());
    return hooks;
  }

  static inline const std::vector<int32_t> kPrompt = {65, 66, 67};
  static inline std::string folder_, model_;
  static inline Crew crew_{1, nullptr};
  static inline std::shared_ptr<Transformer> policy_;
  static inline Critic* critic_ = nullptr;
};

TEST_F(ValueScoring, ValuesAreTheTrainersOwnOnTheSameTokens) {
  const auto scorer = ValueScorer::Load(folder_ + "/critic", model_, 1);
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  std::mt19937 rng(4);
  std::vector<SearchPath> paths(40);
  std::vector<const SearchPath*> pointers;
  double least = 1e9, most = -1e9;
  for (size_t i = 0; i < paths.size(); ++i) {
    Rollout& rollout = paths[i].rollout;
    for (size_t t = 0; t < i * 5; ++t) rollout.tokens.push_back(static_cast<int32_t>(rng() % 256));
    if (i % 3 == 1) {  // an end token counts when it ended the path, and only then
      rollout.tokens.push_back(kEos);
      rollout.finish_reason = i % 2 == 1 ? FinishReason::kStop : FinishReason::kLength;
    }
    pointers.push_back(&paths[i]);
  }
  const auto values = (*scorer)->Score(kPrompt, pointers);
  ASSERT_TRUE(values.ok()) << values.status();
  ASSERT_EQ(values->size(), paths.size());
  for (size_t i = 0; i < paths.size(); ++i) {
    EXPECT_NEAR((*values)[i], TrainersValue(paths[i].rollout), 1e-4) << i;
    least = std::min(least, (*values)[i]);
    most = std::max(most, (*values)[i]);
  }
  EXPECT_GT(most - least, 0.01) << "a constant would not do";
}

TEST_F(ValueScoring, ACriticChoosesAmongPathsInEveryMethod) {
  const LoadedModel loaded = LoadModel(model_).value();
  const std::vector<std::vector<int32_t>> prompts(3, kPrompt);
  const std::vector<std::string> texts(prompts.size(), "ABC");
  SamplingParams sampling;
  sampling.max_new_tokens = 24;
  sampling.seed = 9;
  const SearchHooks hooks = Hooks();
  const auto run = [&](const Json& search, const std::string& scorer) {
    Json asked = search;
    asked["scorer"] = scorer;
    const auto found = RunSearchAsk(SearchAskFromJson(asked, prompts.size()).value(), loaded,
                                    prompts, texts, sampling, hooks, {});
    EXPECT_TRUE(found.ok()) << found.status();
    return *found;
  };
  for (const Json& search :
       {Json{{"method", "best_of_n"}, {"n", 8}}, Json{{"method", "parallel"}, {"n", 8}},
        Json{{"method", "weighted_best_of_n"}, {"n", 8}},
        Json{{"method", "beam"}, {"n", 8}, {"expansion", 4}, {"step_end", "e"}},
        Json{{"method", "dvts"}, {"n", 8}, {"expansion", 4}, {"step_end", "e"}},
        Json{{"method", "mcts"}, {"simulations", 16}, {"step_end", "e"}, {"pick", "value"}}}) {
    const auto by_value = run(search, "value"), by_itself = run(search, "mean_logprob");
    double better = 0;
    for (size_t p = 0; p < prompts.size(); ++p) {
      EXPECT_NEAR(by_value[p].best.score, TrainersValue(by_value[p].best.rollout), 1e-4) << search;
      better += TrainersValue(by_value[p].best.rollout) - TrainersValue(by_itself[p].best.rollout);
      const std::string method = search["method"];
      if (method == "weighted_best_of_n" || method == "mcts") continue;  // sums and visits decide
      for (const SearchPath& other : by_value[p].candidates)
        EXPECT_LE(TrainersValue(other.rollout), by_value[p].best.score + 1e-4) << search;
    }
    if (search["method"] != "weighted_best_of_n" && search["method"] != "mcts") {
      EXPECT_GT(better, 0) << search << ": the other scorer does as well";
    }
  }
}

// What an evaluation and the data maker do with a critic.
TEST_F(ValueScoring, ToolsTakeItToo) {
  const SearchHooks hooks = Hooks();
  const GradeFunction grade = [](const PromptRow&, const Rollout& rollout) {
    Verdict verdict;
    verdict.status = VerdictStatus::kScored;
    verdict.correct = rollout.tokens.size() > 3;
    verdict.score = verdict.correct;
    return absl::StatusOr<Verdict>(verdict);
  };
  PromptRow row;
  row.row_id = "a";
  row.prompt = "ABC";
  row.prompt_tokens = kPrompt;
  SamplingParams sampling;
  sampling.max_new_tokens = 200;
  sampling.seed = 11;
  const auto evaluated = EvalTool(model_, {row}, sampling, 1,
                                  {{"method", "best_of_n"}, {"scorer", "value"}}, {}, grade, hooks);
  ASSERT_TRUE(evaluated.ok()) << evaluated.status();
  EXPECT_EQ((*evaluated)["search"]["method"], "best_of_n");
  EXPECT_THAT(EvalTool(model_, {row}, sampling, 1, {{"scorer", "value"}}, {}, grade, {})
                  .status()
                  .ToString(),
              HasSubstr("search.scorer: value needs a critic"));

  const auto samples = RunBatch(*LoadModel(model_), {kPrompt}, sampling, 16, {}).value()[0];
  double best = -1e9;
  for (const Rollout& rollout : samples)
    if (rollout.finish_reason == FinishReason::kStop && rollout.tokens.size() > 3)
      best = std::max(best, TrainersValue(rollout));
  ASSERT_GT(best, -1e9) << "no sample has ended";
  const auto sft =
      MakeData(model_, {row}, sampling, {.kind = "sft", .samples = 16}, {}, grade, hooks);
  ASSERT_TRUE(sft.ok()) << sft.status();
  ASSERT_EQ(sft->rows.size(), 1u);
  EXPECT_NEAR(sft->rows[0]["value"].get<double>(), best, 1e-4);

  const auto values =
      MakeData(model_, {row}, sampling,
               {.kind = "values", .samples = 2, .step_end = "e", .max_steps = 3}, {}, grade, hooks);
  ASSERT_TRUE(values.ok()) << values.status();
  ASSERT_FALSE(values->rows.empty());
  for (const Json& step : values->rows) EXPECT_TRUE(step["predicted"].is_number()) << step;
  EXPECT_NEAR(values->rows.back()["predicted"].get<double>(), TrainersValue(samples[0]), 1e-4)
      << "the response is sample 0";

  // The answer of a label is the one with the largest sum of values.
  const auto labels =
      MakeData(model_, {row}, sampling, {.kind = "labels", .samples = 16, .min_agreement = 0}, {},
               grade, hooks);
  ASSERT_TRUE(labels.ok()) << labels.status();
  std::map<std::string, double> sums;
  for (const Rollout& rollout : samples)
    if (!rollout.text.empty()) sums[rollout.text.substr(0, 1)] += TrainersValue(rollout);
  const auto largest =
      std::ranges::max_element(sums, {}, [](const auto& sum) { return sum.second; });
  ASSERT_EQ(labels->rows.size(), 1u);
  EXPECT_EQ(labels->rows[0]["answer"], largest->first);
}

TEST_F(ValueScoring, WhatDoesNotFitIsRefused) {
  const auto refusal = [](const std::string& critic) {
    return ValueScorer::Load(critic, model_, 1).status();
  };
  EXPECT_TRUE(absl::IsNotFound(refusal(folder_ + "/nowhere")));
  const absl::Status headless = refusal(model_);
  EXPECT_TRUE(absl::IsNotFound(headless)) << headless;
  EXPECT_THAT(std::string(headless.message()), HasSubstr("advantage.baseline value"));

  const auto with_head = [](const std::string& name, const Json& fields, size_t width) {
    const std::string at = folder_ + "/" + name;
    EXPECT_TRUE(Init(at, fields, 5).ok());
    const std::vector<double> zeros(width, 0.0);
    const auto size = static_cast<int64_t>(width);
    EXPECT_TRUE(WriteSafetensors(at + "/value_head.safetensors",
                                 {{"value_head.weight", "F64", {size}, zeros.data(), 8 * width},
                                  {"value_head.bias", "F64", {1}, zeros.data(), 8}})
                    .ok());
    return at;
  };
  EXPECT_TRUE(refusal(with_head("good", Json::object(), 32)).ok());
  EXPECT_THAT(refusal(with_head("narrow", Json::object(), 16)).ToString(),
              HasSubstr("value_head.weight of the critic's shape"));
  const absl::Status words = refusal(with_head("words", {{"vocab_size", 300}}, 32));
  EXPECT_TRUE(absl::IsInvalidArgument(words));
  EXPECT_THAT(std::string(words.message()), HasSubstr("vocab_size of the critic is 300"));
  EXPECT_THAT(refusal(with_head("short", {{"max_position_embeddings", 64}}, 32)).ToString(),
              HasSubstr("max_position_embeddings of the critic is 64"));
}

}  // namespace
}  // namespace tramontane
