// Thinking control in the engine: a random model whose own bytes serve as tags, so that where it
// would close by itself is known from a run without control.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <nlohmann/json.hpp>
#include <string>

#include "generator/active_sample.h"
#include "generator/engine.h"
#include "model/weights/flatten.h"
#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kRoom = 96;

std::vector<int32_t> Bytes(const std::string& text) {
  std::vector<int32_t> tokens;
  for (char c : text) tokens.push_back(static_cast<uint8_t>(c));
  return tokens;
}

SamplingParams Sampling(const std::string& thinking, uint64_t seed = 3) {
  SamplingParams sampling;
  sampling.max_new_tokens = kRoom;
  sampling.seed = seed;
  sampling.ignore_eos = true;
  if (!thinking.empty()) sampling.thinking = *ThinkingFromJson(Json::parse(thinking));
  return sampling;
}

std::string Budget(int32_t tokens, const std::string& more = "") {
  return R"({"reserve":8,"on_exhaust":"cwm","budget":)" + std::to_string(tokens) + more + "}";
}

class Thinking : public ::testing::Test {
 protected:
  // The tags: "{" opens in the prompt; what the model samples at the given place closes.
  void SetUp() override {
    options_.thinking.open = "{";
    const Rollout free = Run({Sampling("")})[0];
    for (int32_t at = 12; at + 2 < kRoom; ++at) {
      const std::string pair = Ascii(free, at) + Ascii(free, at + 1);
      if (pair.size() != 2 || free.text.find(pair) == std::string::npos) continue;
      natural_ = FirstAt(free, pair);
      if (natural_ < 8) continue;
      options_.thinking.close = pair;
      break;
    }
    ASSERT_GE(natural_, 8);
    free_ = free;
  }

  static std::string Ascii(const Rollout& rollout, int32_t at) {
    const int32_t token = rollout.tokens[at];
    return token >= '!' && token <= '~' ? std::string(1, static_cast<char>(token)) : "";
  }
  static int32_t FirstAt(const Rollout& rollout, const std::string& pair) {
    for (size_t i = 0; i + 1 < rollout.tokens.size(); ++i)
      if (rollout.tokens[i] == pair[0] && rollout.tokens[i + 1] == pair[1])
        return static_cast<int32_t>(i);
    return -1;
  }

  std::unique_ptr<Engine> MakeEngine() {
    auto engine = Engine::Create(options_, model_, tokenizer_, metrics_);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // One request each, side by side.
  std::vector<Rollout> Run(const std::vector<SamplingParams>& asks, EngineStats* stats = nullptr) {
    Collector collector;
    auto engine = MakeEngine();
    std::vector<SampleRequest> requests;
    for (size_t i = 0; i < asks.size(); ++i)
      requests.push_back(collector.Request(std::to_string(i), prompt_, asks[i]));
    return RunEach(*engine, collector, std::move(requests), stats);
  }

  // Every sampled token has the probability that a full forward pass gives it.
  void ExpectScoresAreThoseOfTheContext(const Rollout& rollout) {
    std::vector<uint8_t> injected(rollout.tokens.size(), 0);
    for (const TokenSpan& span : rollout.injected)
      std::fill_n(injected.begin() + span.begin, span.count, 1);
    std::vector<int32_t> tokens = prompt_;
    for (size_t i = 0; i < rollout.tokens.size(); ++i) {
      if (injected[i]) {
        EXPECT_EQ(rollout.logprobs[i], 0);
      } else {
        ASSERT_NEAR(rollout.logprobs[i], FullForward(*model_, tokens)[rollout.tokens[i]], 1e-4)
            << i;
      }
      tokens.push_back(rollout.tokens[i]);
    }
  }

  static std::string Bytewise(const Rollout& rollout) {
    return std::string(rollout.tokens.begin(), rollout.tokens.end());
  }

  const std::vector<int32_t> prompt_ = Bytes("what is 1+1? {");
  std::shared_ptr<Transformer> model_ = TinyModel(7, 0.12);
  std::shared_ptr<const Tokenizer> tokenizer_ = ByteTokenizer();
  EngineOptions options_;
  MetricsRegistry metrics_;
  Rollout free_;          // without control
  int32_t natural_ = -1;  // thinking tokens after which the model closes by itself
};

TEST_F(Thinking, AGrammarRulesTheAnswerWhetherThinkingIsOffOrRunsOut) {
  options_.thinking.close = "}";
  const auto engine = MakeEngine();
  GrammarCompiler compiler(tokenizer_, 264);
  const auto grammar = *compiler.Compile({true, "[ab]{5}c"});
  Collector collector;
  size_t asked = 0;
  for (const char* thinking : {R"({"budget":0})", R"({"budget":3,"on_exhaust":"cwm"})"}) {
    for (const int32_t after : {-1, int32_t{'}'}}) {
      if (asked == 2 && after < 0) continue;  // at once: then there are no thoughts
      auto request = collector.Request(std::to_string(asked++), prompt_, Sampling(thinking));
      request.rules = {.grammar = grammar, .grammar_after_token = after};
      ASSERT_TRUE(engine->Submit(std::move(request)).ok());
    }
  }
  ASSERT_TRUE(collector.WaitFinished(asked));
  for (size_t i = 0; i < asked; ++i) {
    const Rollout rollout = collector.rollouts(std::to_string(i)).at(0);
    EXPECT_EQ(rollout.finish_reason, FinishReason::kStop) << i;
    const std::string answer = rollout.text.substr(rollout.text.find('}') + 1);
    EXPECT_THAT(answer, ::testing::MatchesRegex("\n*[ab][ab][ab][ab][ab]c")) << i;
  }
}

TEST_F(Thinking, AGrammarThatIsCompleteEndsTheTextOfAnyTokenizer) {
  tokenizer_ = ByteTokenizer(/*fallback=*/true);
  const auto engine = MakeEngine();
  GrammarCompiler compiler(tokenizer_, 264);
  Collector collector;
  auto request = collector.Request("a", prompt_, Sampling(""), 1, /*stream=*/true);
  request.rules.grammar = *compiler.Compile({true, "ab\u00e9"});
  ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  ASSERT_TRUE(collector.WaitFinished(1));
  EXPECT_EQ(collector.rollouts("a").at(0).text, "ab\u00e9");
  std::string streamed;
  for (const TokenChunk& chunk : collector.chunks("a")) streamed += chunk.text;
  EXPECT_EQ(streamed, "ab\u00e9");
}

TEST_F(Thinking, TagsBeforeTheLastTurnsEndOpenNothing) {
  const auto engine = MakeEngine();
  Collector collector;
  std::vector<int32_t> prompt = Bytes("what is { for?");
  prompt.push_back(kEndToken);
  prompt.push_back(':');
  ASSERT_TRUE(engine->Submit(collector.Request("turn", prompt, Sampling(R"({"budget":0})"))).ok());
  auto told = collector.Request("told", prompt_, Sampling(R"({"budget":0})"));
  told.answer_opening = "";  // the brace at the prompt's end is somebody else's
  ASSERT_TRUE(engine->Submit(std::move(told)).ok());
  ASSERT_TRUE(collector.WaitFinished(2));
  for (const char* id : {"turn", "told"})
    EXPECT_TRUE(collector.rollouts(id).at(0).text.starts_with("{\n\n" + options_.thinking.close))
        << id;
}

TEST_F(Thinking, BudgetsAreExactAndOnesTheModelKeepsChangeNothing) {
  std::vector<SamplingParams> asks;
  for (int32_t budget : {1, natural_ - 1, natural_, natural_ + 1, -1})
    asks.push_back(Sampling(Budget(budget)));
  const std::vector<Rollout> got = Run(asks);
  for (int i : {2, 3, 4}) {
    EXPECT_EQ(got[i].tokens, free_.tokens) << i;
    EXPECT_TRUE(got[i].injected.empty());
    EXPECT_EQ(got[i].usage.thinking, natural_);
  }
  const auto closing = static_cast<int32_t>(3 + options_.thinking.close.size());  // "..." and tag
  for (int i : {0, 1}) {
    const int32_t budget = i == 0 ? 1 : natural_ - 1;
    EXPECT_EQ(got[i].usage.thinking, budget);
    EXPECT_EQ(got[i].injected, (std::vector<TokenSpan>{{budget, closing}}));
    EXPECT_EQ(got[i].usage.injected, closing);
    EXPECT_EQ(got[i].usage.answer, kRoom - budget - closing);
    EXPECT_EQ(Bytewise(got[i]).substr(budget, closing), "..." + options_.thinking.close);
    EXPECT_TRUE(
        std::equal(free_.tokens.begin(), free_.tokens.begin() + budget, got[i].tokens.begin()));
    ExpectScoresAreThoseOfTheContext(got[i]);
  }
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("tramontane_generator_thinking_ends_total{by=\"exhausted\"} 2"));
}

TEST_F(Thinking, OffClosesTheBlockBeforeTheFirstDraw) {
  const Rollout rollout = Run({Sampling(Budget(0))})[0];
  const std::string block = "\n\n" + options_.thinking.close + "\n\n";
  EXPECT_EQ(rollout.text.substr(0, block.size()), block);
  EXPECT_EQ(rollout.injected, (std::vector<TokenSpan>{{0, static_cast<int32_t>(block.size())}}));
  EXPECT_EQ(rollout.usage.thinking, 0);
  EXPECT_EQ(rollout.tokens.size(), static_cast<size_t>(kRoom));  // injected tokens use max_tokens
  ExpectScoresAreThoseOfTheContext(rollout);
}

TEST_F(Thinking, ATakenBackTagLeavesNoTraceInCacheTextOrStamps) {
  const Rollout rollout =
      Run({Sampling(Budget(natural_ + 4, R"(,"extensions":1,"extension_text":"Wait")"))})[0];
  // The first byte of the tag had been accepted, and its keys may have been computed.
  EXPECT_EQ(rollout.injected[0], (TokenSpan{natural_, 4}));
  EXPECT_EQ(Bytewise(rollout).substr(natural_, 4), "Wait");
  EXPECT_LE(rollout.usage.thinking, natural_ + 4);
  EXPECT_EQ(rollout.spans, (std::vector<VersionSpan>{{0, kRoom}}));
  ExpectScoresAreThoseOfTheContext(rollout);
}

TEST_F(Thinking, NeitherTheBatchNorPreemptionNorPagingChangesAnything) {
  std::vector<SamplingParams> asks;
  for (int32_t i = 0; i < 24; ++i) {
    const std::string more = i % 3 == 0 ? R"(,"extensions":2)" : "";
    asks.push_back(Sampling(Budget(i % 6 == 5   ? -1
                                   : i % 6 == 4 ? 0
                                                : 3 + i,
                                   i % 6 == 4 ? "" : more),
                            static_cast<uint64_t>(i)));
  }
  options_.kv_blocks = 1024;
  const std::vector<Rollout> together = Run(asks);
  options_.kv_blocks = 40;
  options_.kv_block_tokens = 4;
  options_.prefill_chunk_tokens = 5;
  EngineStats stats;
  const std::vector<Rollout> squeezed = Run(asks, &stats);
  EXPECT_GT(stats.preemptions, 0u);
  EXPECT_EQ(stats.kv_blocks_used, 0);
  options_.kv_blocks = 1024;
  options_.max_running_sequences = 1;
  const std::vector<Rollout> alone = Run(asks);
  for (size_t i = 0; i < asks.size(); ++i) {
    EXPECT_EQ(squeezed[i].tokens, together[i].tokens) << i;
    EXPECT_EQ(alone[i].tokens, together[i].tokens) << i;
    EXPECT_EQ(squeezed[i].injected, together[i].injected) << i;
    EXPECT_EQ(alone[i].usage, together[i].usage) << i;
    const int32_t budget = *asks[i].thinking->budget;
    if (budget >= 0) {
      EXPECT_LE(together[i].usage.thinking, budget) << i;
    }
  }
}

TEST_F(Thinking, AWeightSwapMidThoughtKeepsWhatIsLeftOfTheBudget) {
  options_.thinking.close = "\x01\x02";  // the model does not close by itself here
  auto engine = MakeEngine();
  Collector collector;
  collector.AllowStreamed(10);
  ASSERT_TRUE(
      engine->Submit(collector.Request("a", prompt_, Sampling(Budget(40)), 1, /*stream=*/true))
          .ok());
  ASSERT_TRUE(collector.WaitStreamed(10));
  std::vector<char> bytes;
  WeightManifest manifest = FlattenWeights(*TinyModel(8, 0.12), 1, bytes);
  manifest.trainer_epoch = 1;
  ASSERT_TRUE(engine->StageWeights(std::move(manifest), std::move(bytes)).ok());
  // The engine looks for a commit between two tokens, so one token is enough once it is asked for.
  std::promise<void> asking;
  auto commit = std::async(std::launch::async, [&] {
    asking.set_value();
    return engine->CommitWeights(1, 1).status();
  });
  asking.get_future().wait();
  for (size_t held = 11;
       commit.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready;)
    collector.AllowStreamed(held++);
  ASSERT_TRUE(commit.get().ok());
  collector.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector.WaitFinished(1));
  const Rollout rollout = collector.rollouts("a").at(0);
  EXPECT_EQ(rollout.usage.thinking, 40);
  ASSERT_EQ(rollout.spans.size(), 2u);
  EXPECT_LT(rollout.spans[0].count, 40);
  EXPECT_EQ(rollout.injected[0].begin, 40);
}

TEST_F(Thinking, StreamsWhatItKeepsAndMarksWhatItPutsIn) {
  auto engine = MakeEngine();
  Collector collector;
  const SamplingParams sampling = Sampling(Budget(natural_ + 1, R"(,"extensions":1)"));
  ASSERT_TRUE(engine->Submit(collector.Request("a", prompt_, sampling, 1, /*stream=*/true)).ok());
  ASSERT_TRUE(collector.WaitFinished(1));
  const Rollout rollout = collector.rollouts("a").at(0);
  std::vector<int32_t> tokens;
  std::vector<TokenSpan> injected;
  std::string text;
  for (const TokenChunk& chunk : collector.chunks("a")) {
    for (int32_t token : chunk.tokens) {
      const auto at = static_cast<int32_t>(tokens.size());
      if (chunk.injected) {
        const bool goes_on =
            !injected.empty() && injected.back().begin + injected.back().count == at;
        if (!goes_on) injected.push_back({at, 0});
        ++injected.back().count;
      }
      tokens.push_back(token);
    }
    text += chunk.text;
  }
  EXPECT_EQ(tokens, rollout.tokens);
  EXPECT_EQ(injected, rollout.injected);
  EXPECT_EQ(text, rollout.text);
}

TEST_F(Thinking, StopStringsAreNotFoundInWhatWasPutIn) {
  SamplingParams sampling = Sampling(Budget(0));
  sampling.stop = {"\n\n"};
  const Rollout rollout = Run({sampling})[0];
  EXPECT_GT(rollout.tokens.size(), static_cast<size_t>(rollout.usage.injected));
}

TEST_F(Thinking, BadBlocksAreRefusedAndDisturbNobody) {
  options_.thinking.max = 50;
  auto engine = MakeEngine();
  Collector collector;
  for (const auto& [thinking, field] :
       {std::pair<std::string, std::string>{Budget(51), "thinking.budget"},
        {R"({"budget":10,"reserve":96})", "thinking.reserve"},
        {R"({"tag":"[Odd]"})", "thinking.tag"}}) {
    const absl::Status status =
        engine->Submit(collector.Request("bad", prompt_, Sampling(thinking)));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
  ASSERT_TRUE(engine->Submit(collector.Request("good", prompt_, Sampling(Budget(50)))).ok());
  ASSERT_TRUE(collector.WaitFinished(1));
  EXPECT_EQ(collector.rollouts("good").at(0).finish_reason, FinishReason::kLength);
  auto mute = Engine::Create(options_, model_, nullptr, metrics_);
  EXPECT_THAT(
      std::string((*mute)->Submit(collector.Request("x", prompt_, Sampling("{}"))).message()),
      HasSubstr("tokenizer"));
}

}  // namespace
}  // namespace tramontane
