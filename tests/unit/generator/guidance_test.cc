// Budget guidance in the engine: a random model, a random predictor, and as the oracle a full
// forward pass whose probabilities are multiplied by the predictor's weights.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "generator/engine.h"
#include "model/length_predictor.h"
#include "model/packed_attention.h"
#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kGuidedRoom = 64, kNewline = '\n';

at::Tensor HeadOf(const LengthPredictor& predictor, const std::string& name) {
  for (const auto& [key, tensor] : predictor.Names())
    if (key == name) return tensor;
  ADD_FAILURE() << name;
  return {};
}

// Predictions that differ by token and context: some sure, some not.
std::shared_ptr<LengthPredictor> RandomPredictor(const ModelConfig& config) {
  auto predictor = std::make_shared<LengthPredictor>(config);
  const at::Generator random = at::detail::createCPUGenerator(11);
  HeadOf(*predictor, "shape_head.weight").normal_(0, 0.6, random);
  HeadOf(*predictor, "rate_head.weight").normal_(0, 0.2, random);
  HeadOf(*predictor, "shape_head.bias").uniform_(20, 60, random);
  HeadOf(*predictor, "rate_head.bias").uniform_(8, 20, random);
  return predictor;
}

// The same sure prediction for every token, whatever came before.
std::shared_ptr<LengthPredictor> ConstantPredictor(const ModelConfig& config) {
  auto predictor = std::make_shared<LengthPredictor>(config);
  HeadOf(*predictor, "shape_head.bias").fill_(80);
  HeadOf(*predictor, "rate_head.bias").fill_(24);
  return predictor;
}

class Guidance : public ::testing::Test {
 protected:
  Guidance() {
    options_.thinking.open = "{";
    options_.thinking.close = "}";
    options_.length_predictor = RandomPredictor(model_->config());
    for (const char c : std::string("what is 1+1? {")) prompt_.push_back(static_cast<uint8_t>(c));
  }

  static SamplingParams Sampling(int32_t budget, bool guided = true, uint64_t seed = 3,
                                 const std::string& more = "") {
    SamplingParams sampling;
    sampling.max_new_tokens = kGuidedRoom;
    sampling.seed = seed;
    sampling.ignore_eos = true;
    sampling.thinking = *ThinkingFromJson(
        Json::parse(R"({"reserve":8,"on_exhaust":"cwm","budget":)" + std::to_string(budget) +
                    (guided ? R"(,"guidance":true)" : "") + more + "}"));
    return sampling;
  }

  std::unique_ptr<Engine> MakeEngine() {
    auto engine = Engine::Create(options_, model_, tokenizer_, metrics_);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  SampleRequest Ask(Collector& collector, const std::string& id, const SamplingParams& sampling) {
    SampleRequest request = collector.Request(id, prompt_, sampling);
    request.rules.logit_bias = {{kNewline, 4.0f}};  // short lines
    return request;
  }

  std::vector<Rollout> Run(const std::vector<SamplingParams>& asks, EngineStats* stats = nullptr) {
    Collector collector;
    const auto engine = MakeEngine();
    std::vector<SampleRequest> requests;
    for (size_t i = 0; i < asks.size(); ++i)
      requests.push_back(Ask(collector, std::to_string(i), asks[i]));
    return RunEach(*engine, collector, std::move(requests), stats);
  }

  at::Tensor Hidden(const std::vector<int32_t>& tokens) {
    const auto size = static_cast<int64_t>(tokens.size());
    PackedAttention attention({0, size});
    return model_->Forward(at::tensor(tokens, at::kLong), at::arange(size, at::kLong), attention)
        .narrow(0, size - 1, 1);
  }

  // log p of every token behind `tokens`; guided where `remaining`.
  std::vector<double> Oracle(const std::vector<int32_t>& tokens, double temperature,
                             std::optional<int32_t> remaining) {
    const c10::InferenceMode inference;
    const at::Tensor hidden_1D = Hidden(tokens);
    at::Tensor logits_V = model_->Logits(hidden_1D)[0].to(at::kDouble);
    logits_V[kNewline] += 4;
    at::Tensor p_V = (logits_V / temperature).softmax(-1);
    if (remaining) {
      const at::Tensor weights_V =
          BudgetWeights(options_.length_predictor->All(hidden_1D), *remaining)[0].to(at::kDouble);
      p_V = weights_V.sum().item<double>() > 0
                ? p_V * weights_V
                : at::one_hot(logits_V.argmax(), p_V.size(0)).to(at::kDouble);
      p_V = p_V / p_V.sum();
    }
    const at::Tensor logp_V = p_V.log().contiguous();
    return {logp_V.const_data_ptr<double>(), logp_V.const_data_ptr<double>() + logp_V.numel()};
  }

  // Checks every sampled token's log-probability against the oracle; how many were guided.
  int ExpectTruthful(const Rollout& rollout, int32_t budget, double temperature,
                     double guided_temperature) {
    std::vector<int32_t> tokens = prompt_;
    const auto thoughts = static_cast<size_t>(rollout.usage.thinking);
    int guided = 0;
    for (size_t i = 0; i < rollout.tokens.size(); ++i) {
      const bool injected =
          !rollout.injected.empty() && static_cast<int32_t>(i) >= rollout.injected[0].begin &&
          static_cast<int32_t>(i) < rollout.injected[0].begin + rollout.injected[0].count;
      // What closes is drawn while thinking, and so is what exhaustion has refused.
      const bool steers = i <= thoughts && (i == 0 || tokens.back() == kNewline);
      guided += steers;
      if (!injected) {
        std::optional<int32_t> remaining;
        if (steers) remaining = std::max(budget - static_cast<int32_t>(i), 1);
        const auto logp = Oracle(tokens, steers ? guided_temperature : temperature, remaining);
        EXPECT_NEAR(rollout.logprobs[i], logp[static_cast<size_t>(rollout.tokens[i])], 2e-3)
            << i << (steers ? " guided" : "");
      }
      tokens.push_back(rollout.tokens[i]);
    }
    return guided;
  }

  std::vector<int32_t> prompt_;
  std::shared_ptr<Transformer> model_ = TinyModel(7, 0.12);
  std::shared_ptr<const Tokenizer> tokenizer_ = ByteTokenizer();
  EngineOptions options_;
  MetricsRegistry metrics_;
};

TEST_F(Guidance, GuidedTokensAreDrawnFromTheProductAndTellItsProbability) {
  std::vector<SamplingParams> asks;
  for (uint64_t seed = 0; seed < 6; ++seed) asks.push_back(Sampling(20, true, seed));
  int guided = 0;
  for (const Rollout& rollout : Run(asks)) guided += ExpectTruthful(rollout, 20, 1, 1);
  EXPECT_GT(guided, 12);
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("tramontane_generator_guided_tokens_total{by=\"prediction\"} " +
                        std::to_string(guided)));
}

TEST_F(Guidance, TheRequestsTemperatureHoldsUnlessAPlainDrawIsAskedFor) {
  std::vector<SamplingParams> asks;
  for (const char* draw : {"request", "plain"}) {
    asks.push_back(Sampling(20, true, 5, std::string(R"(,"guidance_draw":")") + draw + "\""));
    asks.back().temperature = 0.5;
  }
  const std::vector<Rollout> got = Run(asks);
  EXPECT_GT(ExpectTruthful(got[0], 20, 0.5, 0.5), 1);
  EXPECT_GT(ExpectTruthful(got[1], 20, 0.5, 1.0), 1);
}

TEST_F(Guidance, EqualWeightsChangeNoToken) {
  options_.length_predictor = ConstantPredictor(model_->config());
  const std::vector<Rollout> got = Run({Sampling(20, true), Sampling(20, false)});
  EXPECT_EQ(got[0].tokens, got[1].tokens);
  for (size_t t = 0; t < got[1].logprobs.size(); ++t)
    EXPECT_NEAR(got[0].logprobs[t], got[1].logprobs[t], 1e-5) << t;
}

TEST_F(Guidance, WithoutASurePredictionTheLikeliestTokenIsKept) {
  options_.length_predictor = std::make_shared<LengthPredictor>(model_->config());
  const Rollout rollout = Run({Sampling(20)})[0];
  const auto likeliest = [&](const std::vector<int32_t>& tokens) {
    const auto logp = Oracle(tokens, 1, std::nullopt);
    return static_cast<int32_t>(std::ranges::max_element(logp) - logp.begin());
  };
  std::vector<int32_t> tokens = prompt_;
  int kept = 0;
  for (int32_t i = 0; i <= rollout.usage.thinking && i < 20; ++i) {
    if (i == 0 || tokens.back() == kNewline) {
      EXPECT_EQ(rollout.tokens[static_cast<size_t>(i)], likeliest(tokens)) << i;
      EXPECT_EQ(rollout.logprobs[static_cast<size_t>(i)], 0) << i;
      ++kept;
    }
    tokens.push_back(rollout.tokens[static_cast<size_t>(i)]);
  }
  EXPECT_GT(kept, 1);
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("tramontane_generator_guided_tokens_total{by=\"prediction\"} 0"));
}

TEST_F(Guidance, BothEnginesDrawTheSameTokens) {
  std::vector<SamplingParams> asks;
  for (uint64_t seed = 0; seed < 8; ++seed) asks.push_back(Sampling(24, true, seed));
  const std::vector<Rollout> fused = Run(asks);
  options_.engine = "torch";
  const std::vector<Rollout> torch = Run(asks);
  for (size_t i = 0; i < asks.size(); ++i) {
    EXPECT_EQ(fused[i].tokens, torch[i].tokens) << i;
    EXPECT_EQ(fused[i].usage, torch[i].usage) << i;
    for (size_t t = 0; t < fused[i].logprobs.size(); ++t)
      EXPECT_NEAR(fused[i].logprobs[t], torch[i].logprobs[t], 1e-3) << i << " " << t;
  }
}

TEST_F(Guidance, NeitherTheBatchNorPreemptionNorGuessingAheadChangesAnything) {
  std::vector<SamplingParams> asks;
  for (uint64_t i = 0; i < 16; ++i) {
    asks.push_back(Sampling(static_cast<int32_t>(3 + i), i % 4 != 3, i,
                            i % 3 == 0 ? R"(,"min_tokens":3)" : ""));
  }
  options_.kv_blocks = 1024;
  const std::vector<Rollout> together = Run(asks);
  options_.kv_blocks = 40;
  options_.kv_block_tokens = 4;
  options_.prefill_chunk_tokens = 5;
  options_.ngram_draft_tokens = 3;
  EngineStats stats;
  const std::vector<Rollout> squeezed = Run(asks, &stats);
  EXPECT_GT(stats.preemptions, 0u);
  for (size_t i = 0; i < asks.size(); ++i) {
    EXPECT_EQ(squeezed[i].tokens, together[i].tokens) << i;
    EXPECT_EQ(squeezed[i].injected, together[i].injected) << i;
    EXPECT_LE(together[i].usage.thinking, *asks[i].thinking->budget) << i;
  }
}

TEST_F(Guidance, AResponseThatPausesGoesOnAsIfItHadNot) {
  const auto engine = MakeEngine();
  for (const int32_t draws : {1, 7, 13}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const std::string id = std::to_string(draws) + "." + std::to_string(seed);
      const SamplingParams sampling = Sampling(24, true, seed);
      Collector whole;
      ASSERT_TRUE(engine->Submit(Ask(whole, id, sampling)).ok());
      ASSERT_TRUE(whole.WaitFinished(1));
      std::shared_ptr<OpenResponse> open;
      for (int part = 0; part < 100; ++part) {
        Collector collector;
        SampleRequest request = Ask(collector, id + "." + std::to_string(part), sampling);
        request.begun = open;
        request.pause.after_draws = draws;
        const auto ended = std::make_shared<std::promise<OpenResponse>>();
        request.on_open = [ended](OpenResponse response) { ended->set_value(std::move(response)); };
        ASSERT_TRUE(engine->Submit(std::move(request)).ok());
        open = std::make_shared<OpenResponse>(ended->get_future().get());
        if (open->rollout.finish_reason != FinishReason::kUnspecified) break;
      }
      const Rollout expected = whole.rollouts(id).at(0);
      ASSERT_EQ(open->rollout.tokens, expected.tokens) << id;
      for (size_t t = 0; t < expected.logprobs.size(); ++t)
        EXPECT_NEAR(open->rollout.logprobs[t], expected.logprobs[t], 1e-4) << id << " " << t;
    }
  }
}

TEST_F(Guidance, GrammarsStillHold) {
  options_.thinking.close = "e}";
  const auto engine = MakeEngine();
  GrammarCompiler compiler(tokenizer_, 264);
  Collector collector;
  auto request = collector.Request("a", prompt_, Sampling(20));
  request.rules.grammar = *compiler.Compile({true, "([abc]\n){3}e\\}[0-9]{2}"});
  ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  ASSERT_TRUE(collector.WaitFinished(1));
  EXPECT_THAT(collector.rollouts("a").at(0).text,
              ::testing::MatchesRegex("[abc]\n[abc]\n[abc]\ne[}][0-9][0-9]"));
}

TEST_F(Guidance, WithoutPredictorOrBudgetItIsRefusedAndDisturbsNobody) {
  auto engine = MakeEngine();
  Collector collector;
  const auto refused = [&](const std::string& thinking) {
    SamplingParams sampling = Sampling(1);
    sampling.thinking = *ThinkingFromJson(Json::parse(thinking));
    const absl::Status status = engine->Submit(Ask(collector, "bad", sampling));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refused(R"({"guidance":true})"), HasSubstr("thinking.guidance: needs a budget"));
  EXPECT_THAT(refused(R"({"guidance":true,"mode":"off"})"), HasSubstr("mode gives 0"));
  for (const char* bad : {R"({"guidance":true,"budget":0})", R"({"guidance":true,"budget":-1})"}) {
    EXPECT_THAT(std::string(ThinkingFromJson(Json::parse(bad)).status().message()),
                HasSubstr("thinking.guidance: needs a budget above 0"));
  }
  EXPECT_THAT(
      std::string(ThinkingFromJson(Json::parse(R"({"guidance":"yes"})")).status().message()),
      HasSubstr("thinking.guidance: must be true or false"));
  EXPECT_THAT(
      std::string(ThinkingFromJson(Json::parse(R"({"guidance_draw":"odd"})")).status().message()),
      HasSubstr("thinking.guidance_draw: \"odd\" is none of request, plain"));
  options_.length_predictor = nullptr;
  engine = MakeEngine();
  EXPECT_THAT(refused(R"({"guidance":true,"budget":9,"on_exhaust":"cwm"})"),
              HasSubstr("thinking.guidance: this model has no length predictor"));
  ASSERT_TRUE(engine->Submit(Ask(collector, "good", Sampling(9, false))).ok());
  ASSERT_TRUE(collector.WaitFinished(1));
}

}  // namespace
}  // namespace tramontane
