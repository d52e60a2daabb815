// Speculation by a model's own multi-token-prediction head: it saves steps and changes nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

std::shared_ptr<Transformer> HeadedModel(int64_t vocab, double spread, uint64_t seed) {
  const auto config = ParseModelConfig({{"model_type", "mimo"},
                                        {"vocab_size", vocab},
                                        {"hidden_size", 32},
                                        {"intermediate_size", 64},
                                        {"num_hidden_layers", 2},
                                        {"num_attention_heads", 4},
                                        {"num_key_value_heads", 2},
                                        {"max_position_embeddings", 256},
                                        {"num_nextn_predict_layers", 1},
                                        {"initializer_range", spread}});
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = std::make_shared<Transformer>(*config);
  model->InitRandom(seed);
  return model;
}

std::vector<Ask> AsksOfSeveralKinds(int32_t count, int64_t vocab) {
  std::vector<Ask> asks;
  for (int32_t i = 0; i < count; ++i) {
    Ask ask;
    for (int32_t t = 0; t < 1 + i * 7 % 30; ++t)
      ask.prompt.push_back(static_cast<int32_t>((i / 3 * 31 + t * t) % vocab));
    ask.sampling.max_new_tokens = 40 + i % 7;
    ask.sampling.seed = static_cast<uint64_t>(i);
    ask.sampling.temperature = i % 3 == 0 ? 0 : 0.5 + 0.2 * (i % 4);
    if (i % 4 == 1) ask.sampling.top_p = 0.8;
    if (i % 4 == 2) ask.sampling.top_k = 4;
    ask.n = 1 + i % 3;
    asks.push_back(ask);
  }
  return asks;
}

TEST(MtpSpeculation, ChangesNoTokenAndSavesSteps) {
  const auto model = HeadedModel(12, 0.25, 4);
  const std::vector<Ask> asks = AsksOfSeveralKinds(24, 12);
  for (const char* engine : {"fused", "torch"}) {
    EngineOptions options;
    options.engine = engine;
    options.kv_block_tokens = 4;
    options.kv_blocks = 90;  // so few that sequences are set back
    options.prefill_chunk_tokens = 11;
    options.max_running_sequences = 12;
    EngineStats plain_stats, stats, both_stats;
    const auto plain = RunAll(options, model, asks, &plain_stats);
    options.mtp_draft = true;
    const auto guessed = RunAll(options, model, asks, &stats);
    options.ngram_draft_tokens = 3;
    const auto both = RunAll(options, model, asks, &both_stats);
    for (size_t i = 0; i < asks.size(); ++i) {
      SCOPED_TRACE(i);
      for (const auto& [sample, rollout] : plain[i]) {
        for (const Rollout& other : {guessed[i].at(sample), both[i].at(sample)}) {
          EXPECT_EQ(other.tokens, rollout.tokens);
          ASSERT_EQ(other.logprobs.size(), rollout.logprobs.size());
          for (size_t t = 0; t < rollout.logprobs.size(); ++t)
            ASSERT_NEAR(other.logprobs[t], rollout.logprobs[t], 1e-5);
        }
      }
    }
    EXPECT_EQ(plain_stats.drafted_tokens, 0u);
    EXPECT_GT(stats.preemptions, 0u);
    EXPECT_GT(stats.drafted_tokens, 500u) << engine;
    EXPECT_GT(stats.accepted_draft_tokens, 20u) << engine;
    EXPECT_LT(stats.accepted_draft_tokens, stats.drafted_tokens);
    EXPECT_EQ(stats.generated_tokens, plain_stats.generated_tokens);
    EXPECT_NE(both_stats.drafted_tokens, stats.drafted_tokens);
  }
}

// Probabilities as sampling is defined: tempered, then the shortest likeliest prefix of top_p.
std::vector<double> TruncatedProbabilities(Transformer& model, const std::vector<int32_t>& tokens,
                                           double temperature, double top_p) {
  std::vector<double> p;
  for (const float logprob : FullForward(model, tokens))
    p.push_back(std::exp(logprob / temperature));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  double kept = 0;
  for (const size_t i : order) {
    if (kept >= top_p * total) {
      p[i] = 0;
    } else {
      kept += p[i];
    }
  }
  for (double& x : p) x /= kept;
  return p;
}

// The χ² statistic of `counts` of sequences against their exact probabilities, rare ones together,
// and its degrees of freedom.
std::pair<double, int> ChiSquared(const std::map<std::vector<int32_t>, double>& exact,
                                  const std::map<std::vector<int32_t>, int64_t>& counts,
                                  double samples) {
  double statistic = 0, rare_expected = 0, rare_seen = 0;
  int categories = 0;
  for (const auto& [sequence, probability] : exact) {
    const auto found = counts.find(sequence);
    const double seen = found == counts.end() ? 0 : static_cast<double>(found->second);
    const double expected = probability * samples;
    if (expected < 8) {
      rare_expected += expected;
      rare_seen += seen;
      continue;
    }
    statistic += (seen - expected) * (seen - expected) / expected;
    ++categories;
  }
  if (rare_expected >= 8) {
    statistic += (rare_seen - rare_expected) * (rare_seen - rare_expected) / rare_expected;
    ++categories;
  }
  return {statistic, categories - 1};
}

TEST(MtpSpeculation, DrawsFromTheExactDistribution) {
  constexpr int32_t kVocab = 5, kLength = 4, kRequests = 8, kSamples = 2048;
  const auto model = HeadedModel(kVocab, 0.35, 9);
  const std::vector<int32_t> prompt = {3, 1, 4, 1};
  struct Kind {
    double temperature, top_p;
  };
  for (const Kind& kind : {Kind{1.0, 1.0}, Kind{0.7, 1.0}, Kind{1.3, 0.85}}) {
    SCOPED_TRACE(kind.temperature);
    std::map<std::vector<int32_t>, double> exact = {{{}, 1.0}};
    for (int32_t t = 0; t < kLength; ++t) {
      std::map<std::vector<int32_t>, double> longer;
      for (const auto& [sequence, probability] : exact) {
        std::vector<int32_t> tokens = prompt;
        tokens.insert(tokens.end(), sequence.begin(), sequence.end());
        const auto next = TruncatedProbabilities(*model, tokens, kind.temperature, kind.top_p);
        for (int32_t v = 0; v < kVocab; ++v) {
          if (next[v] == 0) continue;
          std::vector<int32_t> grown = sequence;
          grown.push_back(v);
          longer[grown] = probability * next[v];
        }
      }
      exact = std::move(longer);
    }
    EngineOptions options;
    options.mtp_draft = true;
    options.max_waiting_sequences = kRequests * kSamples;
    std::vector<Ask> asks;
    for (int32_t r = 0; r < kRequests; ++r) {
      Ask ask{prompt, {}, kSamples};
      ask.sampling.max_new_tokens = kLength;
      ask.sampling.temperature = kind.temperature;
      ask.sampling.top_p = kind.top_p;
      ask.sampling.seed = static_cast<uint64_t>(r) + 1;
      asks.push_back(ask);
    }
    EngineStats stats;
    std::map<std::vector<int32_t>, int64_t> counts;
    for (const auto& rollouts : RunAll(options, model, asks, &stats)) {
      for (const auto& [sample, rollout] : rollouts) ++counts[rollout.tokens];
    }
    for (const auto& [sequence, count] : counts) ASSERT_TRUE(exact.contains(sequence));
    const auto [statistic, freedom] = ChiSquared(exact, counts, kRequests * kSamples);
    EXPECT_GT(freedom, 20);
    // Three and a half standard deviations of χ²; a distribution that is off by a few per cent in
    // each sequence lies far beyond.
    EXPECT_LT(statistic, freedom + 3.5 * std::sqrt(2.0 * freedom));
    EXPECT_GT(stats.accepted_draft_tokens, 1000u);
    EXPECT_GT(stats.drafted_tokens, stats.accepted_draft_tokens + 1000u);
  }
}

TEST(MtpSpeculation, IsRefusedForModelsWithoutTheHead) {
  EngineOptions options;
  options.mtp_draft = true;
  MetricsRegistry metrics;
  const auto engine = Engine::Create(options, TinyModel(1), nullptr, metrics);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(engine.status().message().find("mtp_draft"), std::string::npos);
}

}  // namespace
}  // namespace tramontane
