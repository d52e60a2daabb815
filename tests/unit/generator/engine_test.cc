// What the engine generates: equal to solo runs and to plain forward passes, however it is batched,
// chunked, paged, shared or preempted.
#include "generator/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <future>
#include <random>
#include <span>
#include <thread>

#include "generator/core/repetition.h"
#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

SamplingParams Sampling(double temperature, int32_t max_new_tokens, uint64_t seed = 1) {
  SamplingParams sampling;
  sampling.temperature = temperature;
  sampling.max_new_tokens = max_new_tokens;
  sampling.seed = seed;
  return sampling;
}

std::vector<int32_t> Prompt(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(size);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 256);
  return tokens;
}

void ExpectSame(const Rollout& got, const Rollout& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.finish_reason, want.finish_reason);
  ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i)
    ASSERT_NEAR(got.logprobs[i], want.logprobs[i], 1e-5) << i;
}

// Requests of every kind: lengths, temperatures, truncation, several samples.
std::vector<Ask> MixedRequests(size_t count) {
  std::vector<Ask> asks;
  for (size_t i = 0; i < count; ++i) {
    Ask ask;
    ask.prompt = Prompt(1 + i * 7 % 45, static_cast<uint32_t>(i));
    ask.sampling = Sampling(i % 4 == 0 ? 0 : 0.5 + 0.25 * (i % 3), 1 + i * 11 % 40, i);
    if (i % 5 == 1) ask.sampling.top_k = 10;
    if (i % 5 == 2) ask.sampling.top_p = 0.9;
    if (i % 5 == 3) ask.sampling.min_p = 0.05;
    ask.n = 1 + i % 3;
    asks.push_back(ask);
  }
  return asks;
}

TEST(Engine, GreedyEqualsAFullRecomputationOfEveryPosition) {
  const auto model = TinyModel(3);
  Ask ask{Prompt(19, 5), Sampling(0, 40), 1};
  ask.sampling.ignore_eos = true;
  EngineOptions options;
  options.kv_blocks = 64;
  options.prefill_chunk_tokens = 8;
  const Rollout rollout = RunAll(options, model, {ask})[0].at(0);
  ASSERT_EQ(rollout.tokens.size(), 40u);
  EXPECT_EQ(rollout.finish_reason, FinishReason::kLength);
  std::vector<int32_t> tokens = ask.prompt;
  for (size_t i = 0; i < rollout.tokens.size(); ++i) {
    const std::vector<float> logprobs = FullForward(*model, tokens);
    const auto best = std::max_element(logprobs.begin(), logprobs.end());
    ASSERT_EQ(rollout.tokens[i], best - logprobs.begin()) << i;
    ASSERT_NEAR(rollout.logprobs[i], *best, 1e-5);
    tokens.push_back(rollout.tokens[i]);
  }
}

TEST(Engine, EveryRequestInAMixedBatchEqualsItsSoloRun) {
  const auto model = TinyModel(4);
  const std::vector<Ask> asks = MixedRequests(64);
  EngineOptions options;
  options.kv_blocks = 1024;
  const auto together = RunAll(options, model, asks);
  options.max_running_sequences = 1;
  for (size_t i = 0; i < asks.size(); ++i) {
    SCOPED_TRACE(i);
    const auto alone = RunAll(options, model, {asks[i]});
    ASSERT_EQ(together[i].size(), static_cast<size_t>(asks[i].n));
    for (const auto& [sample, rollout] : alone[0]) ExpectSame(together[i].at(sample), rollout);
  }
}

TEST(Engine, PagingChunksThreadsAndPreemptionChangeNothing) {
  const auto model = TinyModel(5);
  const std::vector<Ask> asks = MixedRequests(40);
  EngineOptions plain;
  plain.kv_blocks = 1024;
  const auto expected = RunAll(plain, model, asks);
  struct Variant {
    int32_t block_tokens, blocks, chunk, running, threads;
    bool preempts;
  };
  for (const Variant& v : {Variant{1, 4000, 512, 128, 1, false}, Variant{4, 700, 7, 16, 1, false},
                           Variant{64, 200, 512, 128, 2, false}, Variant{4, 60, 33, 64, 1, true},
                           Variant{16, 8, 16, 128, 1, true}}) {
    SCOPED_TRACE(v.block_tokens);
    EngineOptions options;
    options.kv_block_tokens = v.block_tokens;
    options.kv_blocks = v.blocks;
    options.prefill_chunk_tokens = v.chunk;
    options.max_running_sequences = v.running;
    options.threads = v.threads;
    EngineStats stats;
    const auto got = RunAll(options, model, asks, &stats);
    for (size_t i = 0; i < asks.size(); ++i) {
      for (const auto& [sample, rollout] : expected[i]) ExpectSame(got[i].at(sample), rollout);
    }
    EXPECT_EQ(stats.preemptions > 0, v.preempts);
    EXPECT_EQ(stats.kv_blocks_used, 0);
  }
}

TEST(Engine, SamplesOfOneRequestSharePromptWorkAndDifferFromEachOther) {
  const auto model = TinyModel(6);
  Ask ask{Prompt(50, 1), Sampling(1, 20), 8};
  ask.sampling.ignore_eos = true;
  EngineOptions options;
  options.kv_blocks = 256;
  EngineStats stats;
  const auto shared = RunAll(options, model, {ask}, &stats)[0];
  EXPECT_EQ(stats.prompt_tokens, 50u);
  EXPECT_EQ(stats.generated_tokens, 8u * 20);
  EXPECT_EQ(stats.sibling_hit_tokens, 7u * 49);
  options.max_running_sequences = 1;  // one after the other: none is there to share with
  RunAll(options, model, {ask}, &stats);
  EXPECT_EQ(stats.prompt_tokens, 50u + 7 * 2);  // but for what its three full blocks left behind
  EXPECT_EQ(stats.cache_hit_tokens, 7u * 48);
  options.prefix_cache = false;
  const auto single = RunAll(options, model, {ask}, &stats)[0];
  EXPECT_EQ(stats.prompt_tokens, 8u * 50);
  for (const auto& [sample, rollout] : single) ExpectSame(shared.at(sample), rollout);
  EXPECT_NE(shared.at(0).tokens, shared.at(1).tokens);
}

TEST(Engine, ThePrefixCacheChangesNoToken) {
  const auto model = TinyModel(6);
  std::vector<Ask> asks = MixedRequests(60);
  for (size_t i = 0; i < asks.size(); ++i) {  // begin alike, by three, for 0 to 57 tokens
    const std::vector<int32_t> common = Prompt(static_cast<size_t>(i * 19 % 58), 1000 + i % 3);
    asks[i].prompt.insert(asks[i].prompt.begin(), common.begin(), common.end());
    const std::vector<int32_t> same = Prompt(58, 1000 + i % 3);
    std::copy(same.begin(), same.begin() + static_cast<ptrdiff_t>(common.size()),
              asks[i].prompt.begin());
  }
  for (const char* engine : {"fused", "torch"}) {
    EngineOptions options;
    options.engine = engine;
    options.kv_block_tokens = 8;
    options.kv_blocks = 40;  // kept blocks have to give way, and sequences are preempted
    options.max_running_sequences = 6;
    options.prefill_chunk_tokens = 33;
    EngineStats with, without;
    const auto cached = RunAll(options, model, asks, &with);
    options.prefix_cache = false;
    const auto plain = RunAll(options, model, asks, &without);
    for (size_t i = 0; i < asks.size(); ++i) {
      SCOPED_TRACE(i);
      for (const auto& [sample, rollout] : plain[i]) ExpectSame(cached[i].at(sample), rollout);
    }
    EXPECT_GT(with.cache_hit_tokens, 200u) << engine;
    EXPECT_EQ(without.cache_hit_tokens, 0u);
    EXPECT_LT(with.prompt_tokens, without.prompt_tokens);
    EXPECT_EQ(with.kv_blocks_used, 0);
  }
}

TEST(Engine, GuessingAheadChangesNoToken) {
  const auto model = TinyModel(6, 0.35);  // certain enough of itself to repeat itself
  std::vector<Ask> asks = MixedRequests(24);
  for (size_t i = 0; i < asks.size(); ++i) {
    asks[i].sampling.temperature = i % 2 == 0 ? 0 : 1;
    asks[i].sampling.max_new_tokens = 90;
    const std::vector<int32_t> again = asks[i].prompt;  // something to look up
    asks[i].prompt.insert(asks[i].prompt.end(), again.begin(), again.end());
  }
  for (const char* engine : {"fused", "torch"}) {
    EngineOptions options;
    options.engine = engine;
    options.kv_block_tokens = 4;
    options.kv_blocks = 400;
    options.max_running_sequences = 12;
    EngineStats plain_stats, stats;
    const auto plain = RunAll(options, model, asks, &plain_stats);
    options.ngram_draft_tokens = 5;
    const auto guessed = RunAll(options, model, asks, &stats);
    for (size_t i = 0; i < asks.size(); ++i) {
      SCOPED_TRACE(i);
      for (const auto& [sample, rollout] : plain[i]) ExpectSame(guessed[i].at(sample), rollout);
    }
    EXPECT_EQ(plain_stats.drafted_tokens, 0u);
    EXPECT_GT(stats.accepted_draft_tokens, 100u) << engine;
    EXPECT_LT(stats.accepted_draft_tokens, stats.drafted_tokens);
    EXPECT_LT(stats.steps, plain_stats.steps);
    EXPECT_EQ(stats.generated_tokens, plain_stats.generated_tokens);
  }
}

TEST(Engine, SampledLogProbabilitiesAreThoseOfTheTemperedDistribution) {
  const auto model = TinyModel(7);
  const Ask ask{Prompt(12, 9), Sampling(0.7, 24), 1};
  const Rollout rollout = RunAll({}, model, {ask})[0].at(0);
  std::vector<int32_t> tokens = ask.prompt;
  for (size_t i = 0; i < rollout.tokens.size(); ++i) {
    const std::vector<float> logprobs = FullForward(*model, tokens);
    double total = 0;
    for (float value : logprobs) total += std::exp(value / 0.7);
    ASSERT_NEAR(rollout.logprobs[i], logprobs[rollout.tokens[i]] / 0.7 - std::log(total), 2e-5);
    tokens.push_back(rollout.tokens[i]);
  }
}

TEST(Engine, EndTokensStopUnlessIgnoredAndOwnStopTokensAlwaysDo) {
  const auto model = TinyModel(8);
  Ask ask{Prompt(5, 2), Sampling(0, 30), 1};
  ask.sampling.ignore_eos = true;
  const Rollout free = RunAll({}, model, {ask})[0].at(0);
  ask.sampling.stop_token_ids = {free.tokens[3]};
  const Rollout stopped = RunAll({}, model, {ask})[0].at(0);
  const auto first = std::find(free.tokens.begin(), free.tokens.end(), free.tokens[3]);
  EXPECT_EQ(stopped.finish_reason, FinishReason::kStop);
  EXPECT_EQ(stopped.tokens, std::vector<int32_t>(free.tokens.begin(), first + 1));
}

TEST(Engine, ASampleThatGoesRoundInCirclesEndsThere) {
  const auto model = TinyModel(8);
  int ended = 0;
  for (uint32_t i = 0; i < 20; ++i) {
    SCOPED_TRACE(i);
    Ask ask{Prompt(5, i), Sampling(0, 60), 1};  // greedy: sooner or later it says the same
    ask.sampling.ignore_eos = true;
    const Rollout free = RunAll({}, model, {ask})[0].at(0);
    RepetitionRule rule(4, 2);
    size_t end = 0;
    while (end < free.tokens.size() && !rule.Push(std::span(free.tokens).first(end + 1))) ++end;
    ask.sampling.repetition_tokens = 4;
    ask.sampling.repetition_times = 2;
    const Rollout watched = RunAll({}, model, {ask})[0].at(0);
    // What there is of it is as it would have been, and it ends where the rule says.
    const bool repeats = end + 1 < free.tokens.size();
    if (repeats) {
      ++ended;
      EXPECT_EQ(watched.finish_reason, FinishReason::kRepetition);
      EXPECT_EQ(watched.tokens,
                std::vector<int32_t>(free.tokens.begin(),
                                     free.tokens.begin() + static_cast<std::ptrdiff_t>(end) + 1));
    } else {
      EXPECT_EQ(watched.tokens, free.tokens);
    }
  }
  EXPECT_GT(ended, 0) << "none of them repeats itself: the test says nothing";
}

// With room for two of four, long samples take turns, and every token is what it would have been.
TEST(Engine, SegmentsMakeRoomForThoseThatWaitAndChangeNoToken) {
  const auto model = TinyModel(8);
  std::vector<Ask> asks;
  for (uint32_t i = 0; i < 4; ++i) {
    asks.push_back({Prompt(20, i), Sampling(1, i < 2 ? 60 : 4, i), 1});
    asks.back().sampling.ignore_eos = true;
  }
  EngineOptions options;
  options.max_running_sequences = 2;
  EngineStats stats;
  const auto whole = RunAll(options, model, asks, &stats);
  EXPECT_EQ(stats.segments_ended, 0u);
  for (const bool prefix_cache : {true, false}) {
    options.prefix_cache = prefix_cache;
    options.segment_tokens = 10;
    const auto cut = RunAll(options, model, asks, &stats);
    EXPECT_GE(stats.segments_ended, 2u);
    EXPECT_EQ(stats.kv_blocks_used, 0);
    for (size_t i = 0; i < asks.size(); ++i) ExpectSame(cut[i].at(0), whole[i].at(0));
  }
}

TEST(Engine, TheContextLimitEndsASampleByLength) {
  const auto model = TinyModel(8);
  Ask ask{Prompt(500, 2), Sampling(1, 1000), 1};
  ask.sampling.ignore_eos = true;
  const Rollout rollout = RunAll({}, model, {ask})[0].at(0);
  EXPECT_EQ(rollout.finish_reason, FinishReason::kLength);
  EXPECT_EQ(rollout.tokens.size(), 12u);  // 512 positions
}

class EngineRequests : public ::testing::Test {
 protected:
  void Start(EngineOptions options = {}) {
    auto engine = Engine::Create(options, model_, ByteTokenizer(), metrics_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  std::shared_ptr<Transformer> model_ = TinyModel(9);
  MetricsRegistry metrics_;
  Collector collector_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineRequests, AreRefusedWithTheFieldNamed) {
  EngineOptions options;
  options.kv_blocks = 4;
  Start(options);
  const auto refusal = [&](std::vector<int32_t> prompt, SamplingParams sampling, int32_t n = 1) {
    const absl::Status status =
        engine_->Submit(collector_.Request("r", std::move(prompt), sampling, n));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal({}, Sampling(1, 4)), HasSubstr("prompt_tokens"));
  EXPECT_THAT(refusal({1, 264}, Sampling(1, 4)), HasSubstr("264 is outside the vocabulary"));
  EXPECT_THAT(refusal(Prompt(64, 1), Sampling(1, 4)), HasSubstr("hold 64"));
  EXPECT_THAT(refusal({1}, Sampling(1, 0)), HasSubstr("max_new_tokens"));
  EXPECT_THAT(refusal({1}, Sampling(1, 4), 0), HasSubstr("n must be positive"));
  EXPECT_THAT(refusal({1}, Sampling(1, 4), 1025), HasSubstr("n is 1025"));  // it could never fit
  SamplingParams stops = Sampling(1, 4);
  stops.stop.assign(65, "x");
  EXPECT_THAT(refusal({1}, stops), HasSubstr("stop: at most 64"));
  stops.stop = {std::string(1025, 'x')};
  EXPECT_THAT(refusal({1}, stops), HasSubstr("stop: each string"));
  stops.stop.clear();
  stops.stop_token_ids.assign(1025, 1);
  EXPECT_THAT(refusal({1}, stops), HasSubstr("stop_token_ids: at most 1024"));
  SamplingParams empty_stop = Sampling(1, 4);
  empty_stop.stop = {""};
  EXPECT_THAT(refusal({1}, empty_stop), HasSubstr("stop"));
  options.kv_blocks = 0;
  EXPECT_THAT(std::string(Engine::Create(options, model_, nullptr, metrics_).status().message()),
              HasSubstr("kv_blocks"));
}

TEST_F(EngineRequests, BeyondTheWaitingBoundAreRefusedUntilThereIsRoom) {
  EngineOptions options;
  options.max_running_sequences = 1;
  options.max_waiting_sequences = 4;
  Start(options);
  SamplingParams sampling = Sampling(1, 400);
  sampling.ignore_eos = true;
  collector_.AllowStreamed(3);  // holds the first of the four
  ASSERT_TRUE(engine_->Submit(collector_.Request("a", {1}, sampling, 4, true)).ok());
  ASSERT_TRUE(collector_.WaitStreamed(3));
  EXPECT_EQ(engine_->Submit(collector_.Request("b", {1}, sampling, 2)).code(),
            absl::StatusCode::kResourceExhausted);
  engine_->Cancel("a");
  collector_.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector_.WaitFinished(4));
  collector_.AllowStreamed(0);
  EXPECT_TRUE(engine_->Submit(collector_.Request("b", {1}, sampling, 2, true)).ok());
  EXPECT_EQ(engine_->Submit(collector_.Request("b", {1}, sampling)).code(),
            absl::StatusCode::kAlreadyExists);
  collector_.AllowStreamed(SIZE_MAX);
}

TEST_F(EngineRequests, CancelledOnesEndAndFreeTheirBlocks) {
  Start();
  SamplingParams sampling = Sampling(1, 450);
  sampling.ignore_eos = true;
  collector_.AllowStreamed(60);
  ASSERT_TRUE(engine_->Submit(collector_.Request("a", Prompt(30, 1), sampling, 6, true)).ok());
  ASSERT_TRUE(collector_.WaitStreamed(60));
  EXPECT_GT(engine_->stats().kv_blocks_used, 0);
  engine_->Cancel("a");
  collector_.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector_.WaitFinished(6));
  for (const auto& [sample, rollout] : collector_.rollouts("a")) {
    EXPECT_EQ(rollout.finish_reason, FinishReason::kAborted);
    EXPECT_EQ(rollout.tokens.size(), rollout.logprobs.size());
  }
  // Its id is free again at once, and afterwards nothing is held.
  SampleRequest again = collector_.Request("again", {1, 2}, Sampling(1, 3));
  again.id = "a";
  ASSERT_TRUE(engine_->Submit(std::move(again)).ok());
  ASSERT_TRUE(collector_.WaitFinished(7));
  EXPECT_EQ(engine_->stats().kv_blocks_used, 0);
}

TEST_F(EngineRequests, EndWhenTheirDeadlinePassesRunningOrWaiting) {
  EngineOptions options;
  options.max_running_sequences = 3;
  Start(options);
  SamplingParams sampling = Sampling(1, 450);
  sampling.ignore_eos = true;
  const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  collector_.AllowStreamed(40);  // holds the engine until the deadline has passed
  auto late = collector_.Request("late", Prompt(30, 1), sampling, 4, true);
  late.deadline = soon;
  ASSERT_TRUE(engine_->Submit(std::move(late)).ok());
  auto patient = collector_.Request("patient", Prompt(30, 2), Sampling(1, 5), 2);
  patient.deadline = soon + std::chrono::hours(1);
  ASSERT_TRUE(engine_->Submit(std::move(patient)).ok());
  ASSERT_TRUE(collector_.WaitStreamed(40));
  std::this_thread::sleep_until(soon);
  collector_.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector_.WaitFinished(6));
  int sampled = 0;
  for (const auto& [sample, rollout] : collector_.rollouts("late")) {
    EXPECT_EQ(rollout.finish_reason, FinishReason::kTimeout);
    EXPECT_LT(rollout.tokens.size(), 450u);
    EXPECT_EQ(rollout.tokens.size(), rollout.logprobs.size());
    sampled += !rollout.tokens.empty();
  }
  EXPECT_EQ(sampled, 3);  // the fourth had to wait for a place
  for (const auto& [sample, rollout] : collector_.rollouts("patient"))
    EXPECT_NE(rollout.finish_reason, FinishReason::kTimeout);
  EXPECT_EQ(engine_->stats().kv_blocks_used, 0);
}

TEST_F(EngineRequests, EndAbortedWhenTheEngineGoesAway) {
  Start();
  SamplingParams sampling = Sampling(1, 500);
  sampling.ignore_eos = true;
  ASSERT_TRUE(engine_->Submit(collector_.Request("a", {1}, sampling, 300)).ok());
  engine_.reset();
  ASSERT_EQ(collector_.rollouts("a").size(), 300u);
  EXPECT_EQ(collector_.rollouts("a").at(299).finish_reason, FinishReason::kAborted);
}

TEST_F(EngineRequests, StopStringsSplitOverTokensEndTheTextBeforeThem) {
  Start();
  // Every token is one byte, so any stop string of two or more bytes is split over tokens. Greedy
  // output is found first; three bytes of it then become the stop string.
  SamplingParams sampling = Sampling(1, 60, 77);
  sampling.ignore_eos = true;
  std::vector<int32_t> printable;
  ASSERT_TRUE(engine_->Submit(collector_.Request("free", {65, 66}, sampling)).ok());
  ASSERT_TRUE(collector_.WaitFinished(1));
  const Rollout free = collector_.rollouts("free").at(0);
  size_t begin = 0;
  const auto ascii = [&](size_t i) { return free.tokens[i] >= 32 && free.tokens[i] < 127; };
  for (size_t i = 3; i + 1 < free.tokens.size() && begin == 0; ++i)
    if (ascii(i) && ascii(i + 1)) begin = i;
  ASSERT_GT(begin, 0u) << "no two printable bytes in a row: choose another seed";
  sampling.stop = {"never in it", std::string{static_cast<char>(free.tokens[begin]),
                                              static_cast<char>(free.tokens[begin + 1])}};
  ASSERT_TRUE(engine_->Submit(collector_.Request("stop", {65, 66}, sampling, 1, true)).ok());
  ASSERT_TRUE(collector_.WaitFinished(2));
  const Rollout stopped = collector_.rollouts("stop").at(0);
  EXPECT_EQ(stopped.finish_reason, FinishReason::kStop);
  EXPECT_EQ(stopped.tokens,
            std::vector<int32_t>(free.tokens.begin(), free.tokens.begin() + begin + 2));
  EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(sampling.stop[1])));
  std::string streamed;
  std::vector<int32_t> tokens;
  for (const TokenChunk& chunk : collector_.chunks("stop")) {
    streamed += chunk.text;
    tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
  }
  EXPECT_EQ(streamed, stopped.text);
  EXPECT_EQ(tokens, stopped.tokens);
}

TEST_F(EngineRequests, StreamedTextEqualsTheFinishedText) {
  Start();
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const std::string id = std::to_string(seed);
    ASSERT_TRUE(
        engine_->Submit(collector_.Request(id, {70, 71}, Sampling(1, 50, seed), 1, true)).ok());
    ASSERT_TRUE(
        engine_->Submit(collector_.Request("q" + id, {70, 71}, Sampling(1, 50, seed))).ok());
  }
  ASSERT_TRUE(collector_.WaitFinished(16));
  for (uint64_t seed = 0; seed < 8; ++seed) {
    std::string streamed;
    for (const TokenChunk& chunk : collector_.chunks(std::to_string(seed))) streamed += chunk.text;
    const Rollout quiet = collector_.rollouts("q" + std::to_string(seed)).at(0);
    EXPECT_EQ(streamed, collector_.rollouts(std::to_string(seed)).at(0).text);
    EXPECT_EQ(streamed, quiet.text);
  }
}

TEST_F(EngineRequests, AreCountedInTheMetrics) {
  Start();
  SamplingParams sampling = Sampling(1, 10);
  sampling.ignore_eos = true;
  std::promise<std::string> page;  // as it is when the sample's end is told
  SampleRequest last = collector_.Request("last", {1, 2, 3}, sampling);
  last.on_finished = [&](const Rollout&) { page.set_value(metrics_.Render()); };
  ASSERT_TRUE(engine_->Submit(std::move(last)).ok());
  EXPECT_THAT(page.get_future().get(),
              HasSubstr("tramontane_generator_tokens_total{kind=\"generated\"} 10"));
  ASSERT_TRUE(engine_->Submit(collector_.Request("a", {7, 8, 9}, sampling)).ok());
  ASSERT_TRUE(collector_.WaitFinished(1));
  engine_.reset();
  const std::string text = metrics_.Render();
  EXPECT_THAT(text, HasSubstr("tramontane_generator_tokens_total{kind=\"generated\"} 20"));
  EXPECT_THAT(text, HasSubstr("tramontane_generator_tokens_total{kind=\"prompt\"} 6"));
  EXPECT_THAT(text, HasSubstr("tramontane_generator_finished_total{reason=\"length\"} 2"));
}

TEST(EngineExperts, AreCountedWhereSomebodyAsks) {
  const auto mixture = TinyMixture(3);
  Ask ask{Prompt(3, 1), Sampling(0, 5)};
  ask.sampling.ignore_eos = true;
  for (const bool asked : {false, true}) {
    EngineOptions options;
    options.count_experts = asked;
    EngineStats stats;
    RunAll(options, mixture, {ask}, &stats);
    EXPECT_EQ(stats.generated_tokens, 5u);
    EXPECT_EQ(stats.decode_steps, asked ? 4u : 0u);  // the prompt's step draws the first token
    EXPECT_EQ(stats.touched_experts, asked ? 4u * 2 * 2 : 0u);
  }
}

}  // namespace
}  // namespace tramontane
