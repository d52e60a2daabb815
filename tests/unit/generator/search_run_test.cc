// Searches on the real engine: one path is plain sampling, and nothing depends on what runs beside.
#include "generator/search_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>
#include <numeric>

#include "generator/search_tool.h"
#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

class SearchRun : public ::testing::Test {
 protected:
  void SetUp() override {
    loaded_.model = TinyModel(7, 0.12);
    loaded_.tokenizer = ByteTokenizer();
    sampling_.max_new_tokens = 60;
    sampling_.seed = 5;
    for (int p = 0; p < 3; ++p) prompts_.push_back({65 + p, 66, 67, 68});
    judge_.answer = [](const std::string& text) { return std::optional(text.substr(0, 1)); };
    judge_.same = [](const std::string& a, const std::string& b) { return a == b; };
    const auto plain = RunBatch(loaded_, prompts_, sampling_, 1, {});
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (const auto& rollouts : *plain) plain_.push_back(rollouts[0]);
    // A byte that the model samples early is where its steps end.
    const auto& tokens = plain_[0].tokens;
    const auto step = std::ranges::find_if(tokens.begin() + 5, tokens.end(),
                                           [](int32_t token) { return token > 32 && token < 127; });
    ASSERT_NE(step, tokens.end());
    step_end_ = std::string(1, static_cast<char>(*step));
  }

  std::vector<SearchResult> Run(const std::string& json, int32_t max_running = 128) {
    EngineOptions options;
    options.max_running_sequences = max_running;
    nlohmann::json params = nlohmann::json::parse(json);
    params["step_end"] = step_end_;
    auto results =
        RunSearches(loaded_, prompts_, sampling_, *SearchFromJson(params), judge_, options);
    EXPECT_TRUE(results.ok()) << json << results.status();
    return results.ok() ? *results : std::vector<SearchResult>();
  }

  LoadedModel loaded_;
  SamplingParams sampling_;
  SearchJudge judge_;
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<Rollout> plain_;
  std::string step_end_;
};

TEST_F(SearchRun, OnePathIsPlainSamplingTokenForTokenHoweverOftenItStops) {
  for (const char* params :
       {R"({"method":"beam","n":1,"expansion":1})", R"({"method":"dvts","n":1,"expansion":1})",
        R"({"method":"best_of_n","n":1,"aggregate":"min"})", R"({"method":"majority","n":1})"}) {
    const auto found = Run(params);
    ASSERT_EQ(found.size(), prompts_.size());
    for (size_t p = 0; p < found.size(); ++p) {
      const Rollout& rollout = found[p].best.rollout;
      EXPECT_EQ(rollout.tokens, plain_[p].tokens) << params << p;
      EXPECT_EQ(rollout.text, plain_[p].text) << params << p;
      EXPECT_EQ(rollout.spans, plain_[p].spans);
      EXPECT_EQ(rollout.finish_reason, plain_[p].finish_reason);
      for (size_t i = 0; i < rollout.logprobs.size(); ++i)
        ASSERT_NEAR(rollout.logprobs[i], plain_[p].logprobs[i], 1e-5);
    }
  }
  const auto beam = Run(R"({"method":"beam","n":1,"expansion":1})");
  EXPECT_GT(beam[0].best.step_scores.size(), 1u);  // it did stop
}

TEST_F(SearchRun, WhatIsFoundDoesNotDependOnWhatRunsBeside) {
  for (const char* params :
       {R"({"method":"beam","n":4,"expansion":2,"max_steps":5})",
        R"({"method":"dvts","n":4,"expansion":2,"token_budget":100})",
        R"({"method":"mcts","simulations":6,"rollout_weight":0.5,"max_steps":4})",
        R"({"method":"weighted_best_of_n","n":6})"}) {
    const auto wide = Run(params), narrow = Run(params, 1);
    ASSERT_EQ(wide.size(), narrow.size());
    for (size_t p = 0; p < wide.size(); ++p) {
      EXPECT_EQ(wide[p].best.rollout.tokens, narrow[p].best.rollout.tokens) << params;
      EXPECT_EQ(wide[p].sampled_tokens, narrow[p].sampled_tokens) << params;
    }
  }
}

TEST_F(SearchRun, BestOfNHasTheHighestMeanLogProbabilityOfItsSamples) {
  const auto found = Run(R"({"method":"best_of_n","n":5})");
  const auto samples = RunBatch(loaded_, prompts_, sampling_, 5, {});
  const auto mean = [](const Rollout& rollout) {
    return std::accumulate(rollout.logprobs.begin(), rollout.logprobs.end(), 0.0) /
           static_cast<double>(rollout.logprobs.size());
  };
  for (size_t p = 0; p < found.size(); ++p) {
    const auto best = std::ranges::max_element((*samples)[p], {}, mean);
    EXPECT_EQ(found[p].best.rollout.tokens, best->tokens);
    EXPECT_NEAR(found[p].best.score, mean(*best), 1e-5);
  }
}

TEST_F(SearchRun, AStopStringEndsAPathAndAStepDoesNot) {
  sampling_.stop = {step_end_};
  const auto stopped = Run(R"({"method":"beam","n":1,"expansion":1})");
  EXPECT_EQ(stopped[0].best.rollout.finish_reason, FinishReason::kStop);
  EXPECT_EQ(stopped[0].best.rollout.text, plain_[0].text.substr(0, plain_[0].text.find(step_end_)));
  EXPECT_EQ(stopped[0].best.step_scores.size(), 1u);
}

class ThinkingSearch : public SearchRun {
 protected:
  void SetUp() override {
    SearchRun::SetUp();
    loaded_.thinking.close = "}}}";
    loaded_.thinking.open = "{";
    sampling_.ignore_eos = true;
    for (auto& prompt : prompts_) prompt.push_back('{');
  }
  void Think(const char* block) {
    sampling_.thinking = *ThinkingFromJson(nlohmann::json::parse(block));
  }
};

TEST_F(ThinkingSearch, IsBoundedInEveryPathOfEveryMethod) {
  Think(R"({"budget":7,"on_exhaust":"cwm","reserve":10})");
  for (const char* params :
       {R"({"method":"best_of_n","n":3})", R"({"method":"beam","n":4,"expansion":2})",
        R"({"method":"best_of_n","n":3,"token_budget":100})",
        R"({"method":"majority","n":3,"token_budget":40,"budget_scope":"path"})",
        R"({"method":"mcts","simulations":5,"max_steps":4})"}) {
    for (const SearchResult& result : Run(params)) {
      for (const SearchPath& path : result.candidates) {
        if (!path.ended) continue;
        EXPECT_EQ(path.rollout.usage.thinking, 7) << params;
        EXPECT_EQ(CountTokens(path.rollout.injected), path.rollout.usage.injected);
        EXPECT_GT(path.rollout.usage.injected, 0) << params;
        EXPECT_THAT(path.rollout.text, HasSubstr("...}}}")) << params;
      }
    }
  }
}

// Every step is a request of its own, and cuts come anywhere: none of them may show.
TEST_F(ThinkingSearch, APathThatPausesIsTheResponseThatDoesNot) {
  for (const char* block :
       {R"({"budget":7,"on_exhaust":"cwm","reserve":10})",
        R"({"budget":20,"min_tokens":12,"on_exhaust":"s1","reserve":5})", R"({"budget":0})",
        R"({"tag":"dynamic","reserve":8,"on_exhaust":"cwm"})"}) {
    Think(block);
    const auto plain = RunBatch(loaded_, prompts_, sampling_, 1, {});
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (const char* params : {R"({"method":"beam","n":1,"expansion":1})",
                               R"({"method":"best_of_n","n":1,"aggregate":"min"})"}) {
      const auto found = Run(params);
      for (size_t p = 0; p < found.size(); ++p) {
        const Rollout &rollout = found[p].best.rollout, &whole = (*plain)[p][0];
        EXPECT_EQ(rollout.tokens, whole.tokens) << block << params << p;
        EXPECT_EQ(rollout.injected, whole.injected) << block << params;
        EXPECT_EQ(rollout.usage, whole.usage) << block << params;
        EXPECT_EQ(rollout.text, whole.text) << block << params;
      }
    }
  }
}

TEST_F(SearchRun, AJudgesErrorNamesThePrompt) {
  judge_.score =
      [](size_t prompt,
         const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
    if (prompt == 1) return absl::UnavailableError("judge is away");
    return std::vector<double>(paths.size(), 0);
  };
  const auto found = RunSearches(loaded_, prompts_, sampling_, SearchParams(), judge_, {});
  EXPECT_EQ(found.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("prompt 1: judge is away"));
}

TEST_F(SearchRun, AGraderNeedsGoldAnswersThatItUnderstands) {
  SearchHooks hooks;
  hooks.check = [](const std::string&, const std::string& gold) -> absl::Status {
    return gold == "?" ? absl::InvalidArgumentError("search.answers: ?") : absl::OkStatus();
  };
  const std::vector<std::string> texts(prompts_.size());
  SearchAsk ask;
  ask.scorer = "math";
  for (const auto& answers : {std::vector<std::string>{}, {"1", "?", "2"}}) {
    ask.answers = answers;
    const absl::Status status =
        RunSearchAsk(ask, loaded_, prompts_, texts, sampling_, hooks, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("search.answers"));
  }
}

TEST(OpenResponse, OneThatCannotGoOnIsRefused) {
  MetricsRegistry metrics;
  auto engine = Engine::Create({}, TinyModel(7), ByteTokenizer(), metrics);
  ASSERT_TRUE(engine.ok());
  const auto refusal = [&](OpenResponse begun, int32_t n, PauseRule pause, bool open) {
    SampleRequest request;
    request.id = "a";
    request.prompt_tokens = {65};
    request.sampling.max_new_tokens = 4;
    request.n = n;
    request.begun = std::make_shared<const OpenResponse>(std::move(begun));
    request.pause = std::move(pause);
    if (open) request.on_open = [](OpenResponse) {};
    request.on_finished = [](Rollout) {};
    return (*engine)->Submit(std::move(request)).ToString();
  };
  const auto begun = [](std::vector<int32_t> tokens, std::vector<float> logprobs) {
    OpenResponse response;
    response.rollout.tokens = std::move(tokens);
    response.rollout.logprobs = std::move(logprobs);
    return response;
  };
  EXPECT_THAT(refusal(begun({66}, {-1}), 2, {}, true), HasSubstr("taken up once"));
  EXPECT_THAT(refusal(begun({6600}, {-1}), 1, {}, true), HasSubstr("begun: token 6600"));
  EXPECT_THAT(refusal(begun({66}, {}), 1, {}, true), HasSubstr("begun: is no beginning"));
  EXPECT_THAT(refusal(begun({1, 2, 3, 4}, {0, 0, 0, 0}), 1, {}, true), HasSubstr("no room"));
  EXPECT_THAT(refusal(begun({66}, {-1}), 1, {}, false), HasSubstr("on_open must be set"));
  EXPECT_THAT(refusal(begun({66}, {-1}), 1, {"x", 5}, false), HasSubstr("on_open must be set"));
  EXPECT_THAT(refusal(begun({66}, {-1}), 1, {"", 0}, true), HasSubstr("pause"));
}

TEST(OpenResponse, OneOfAForgottenVersionIsAborted) {
  MetricsRegistry metrics;
  EngineOptions options;
  options.initial_version = 4;
  auto engine = Engine::Create(options, TinyModel(7), ByteTokenizer(), metrics);
  ASSERT_TRUE(engine.ok());
  for (const auto& [version, reason] :
       {std::pair{4, FinishReason::kLength}, {5, FinishReason::kAborted}}) {
    OpenResponse begun;
    begun.rollout.tokens = {66};
    begun.rollout.logprobs = {-1};
    begun.rollout.spans = {{version, 1}};
    begun.draws = 1;
    std::promise<Rollout> ended;
    SampleRequest request;
    request.id = "a";
    request.prompt_tokens = {65};
    request.sampling.max_new_tokens = 4;
    request.sampling.ignore_eos = true;
    request.begun = std::make_shared<const OpenResponse>(begun);
    request.on_open = [&ended](OpenResponse open) { ended.set_value(std::move(open.rollout)); };
    ASSERT_TRUE((*engine)->Submit(std::move(request)).ok());
    const Rollout rollout = ended.get_future().get();
    EXPECT_EQ(rollout.finish_reason, reason);
    EXPECT_EQ(rollout.tokens.size(), reason == FinishReason::kLength ? 4u : 1u);
  }
}

}  // namespace
}  // namespace tramontane
