// What a weight swap costs those who decode, and what the prefix cache saves.
//   engine_bench swap [swaps] [threads]
//     16 samples decode while a 10M-parameter model is swapped again and again: the gap between two
//     of a sample's tokens, at most times and across a commit.
//   engine_bench prefix [requests] [threads]
//     requests with a prefix of 512 tokens in common and 32 of their own, 32 tokens sampled, eight
//     at a time, with and without the cache.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "generator/engine.h"
#include "model/transformer.h"
#include "model/weights/flatten.h"

namespace tramontane {
namespace {

using Time = std::chrono::steady_clock::time_point;

std::shared_ptr<Transformer> TenMillion(uint64_t seed) {
  ModelConfig config;
  config.family = "qwen3";
  config.vocab_size = 1024;
  config.hidden_size = 320;
  config.num_layers = 8;
  config.num_heads = 5;
  config.head_dim = 64;
  config.max_position_embeddings = 4096;
  config.tie_word_embeddings = config.qk_norm = true;
  config.layers.assign(8, {.kv_heads = 5, .mlp_width = 864});
  auto model = std::make_shared<Transformer>(config);
  model->InitRandom(seed);
  return model;
}

// Counts samples that have finished, and notes when each token of sample 0 came.
class Watch {
 public:
  SampleRequest Request(const std::string& id, std::vector<int32_t> prompt, int32_t new_tokens,
                        int32_t n) {
    SampleRequest request;
    request.id = id;
    request.prompt_tokens = std::move(prompt);
    request.sampling.max_new_tokens = new_tokens;
    request.sampling.ignore_eos = true;
    request.n = n;
    request.on_chunk = [this](const TokenChunk& chunk) {
      if (chunk.sample_index != 0) return;
      std::lock_guard lock(mutex_);
      tokens_.emplace_back(std::chrono::steady_clock::now(), chunk.version);
      changed_.notify_all();
    };
    request.on_finished = [this](const Rollout&) {
      std::lock_guard lock(mutex_);
      ++finished_;
      changed_.notify_all();
    };
    return request;
  }
  void AwaitFinished(int32_t samples) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ >= samples; });
  }
  void AwaitTokens(size_t tokens) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tokens_.size() >= tokens; });
  }
  std::vector<std::pair<Time, int64_t>> tokens() {
    std::lock_guard lock(mutex_);
    return tokens_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int32_t finished_ = 0;
  std::vector<std::pair<Time, int64_t>> tokens_;
};

template <class T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(1);
}
void OrDie(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

double Quantile(std::vector<double> values, double q) {
  std::ranges::sort(values);
  return values.empty() ? 0
                        : values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

void BenchSwap(int32_t swaps, int32_t threads) {
  constexpr int32_t kSamples = 16, kNewTokens = 3900;
  MetricsRegistry metrics;
  Watch watch;
  const auto model = TenMillion(1), other = TenMillion(2);
  auto engine = OrDie(Engine::Create({.threads = threads}, model, nullptr, metrics));
  OrDie(engine->Submit(watch.Request("a", {1, 2, 3, 4}, kNewTokens, kSamples)));
  std::vector<double> pauses;
  for (int32_t version = 1; version <= swaps; ++version) {
    watch.AwaitTokens(static_cast<size_t>(version * 40));
    std::vector<char> payload;
    WeightManifest manifest = FlattenWeights(*other, version, payload);
    manifest.trainer_epoch = 1;
    for (int32_t t = 0; t < 24; ++t) manifest.probe_tokens.push_back(t);
    manifest.probe_logprobs.assign(23, 0);
    manifest.probe_tolerance = 100;  // its cost is measured here, not its verdict
    OrDie(engine->StageWeights(std::move(manifest), std::move(payload)));
    pauses.push_back(OrDie(engine->CommitWeights(version, 1)).pause_seconds);
  }
  engine->Cancel("a");
  watch.AwaitFinished(kSamples);
  std::vector<double> gaps, across;
  const auto tokens = watch.tokens();
  for (size_t i = 1; i < tokens.size(); ++i) {
    const double gap = std::chrono::duration<double>(tokens[i].first - tokens[i - 1].first).count();
    (tokens[i].second == tokens[i - 1].second ? gaps : across).push_back(gap);
  }
  std::printf(
      "gap between tokens, ms: median %.2f, p99 %.2f; across a swap: median %.2f, max %.2f "
      "(%zu swaps)\npause told, ms: median %.3f, max %.3f\n",
      Quantile(gaps, 0.5) * 1e3, Quantile(gaps, 0.99) * 1e3, Quantile(across, 0.5) * 1e3,
      Quantile(across, 1) * 1e3, across.size(), Quantile(pauses, 0.5) * 1e3,
      Quantile(pauses, 1) * 1e3);
}

void BenchPrefix(int32_t requests, int32_t threads) {
  const auto model = TenMillion(1);
  for (const bool enabled : {false, true, false, true}) {
    MetricsRegistry metrics;
    Watch watch;
    EngineOptions options;
    options.threads = threads;
    options.prefix_cache = enabled;
    options.max_running_sequences = 8;
    options.kv_blocks = 1024;
    auto engine = OrDie(Engine::Create(options, model, nullptr, metrics));
    const auto before = std::chrono::steady_clock::now();
    for (int32_t r = 0; r < requests; ++r) {
      std::vector<int32_t> prompt;
      for (int32_t t = 0; t < 512; ++t) prompt.push_back(t * 7 % 251);
      for (int32_t t = 0; t < 32; ++t) prompt.push_back((t * 13 + r * 31) % 251);
      OrDie(engine->Submit(watch.Request(std::to_string(r), std::move(prompt), 32, 1)));
    }
    watch.AwaitFinished(requests);
    const double seconds = SecondsSince(before);
    const EngineStats stats = engine->stats();
    std::printf(
        "prefix cache %-3s: %7.1f tokens/s sampled, %llu prompt tokens computed, %llu found\n",
        enabled ? "on" : "off", requests * 32 / seconds,
        static_cast<unsigned long long>(stats.prompt_tokens),
        static_cast<unsigned long long>(stats.cache_hit_tokens));
  }
}

int Main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int32_t count = argc > 2 ? std::atoi(argv[2]) : 40;
  const int32_t threads = argc > 3 ? std::atoi(argv[3]) : 1;
  if (what == "swap") {
    BenchSwap(count, threads);
  } else if (what == "prefix") {
    BenchPrefix(count, threads);
  } else {
    std::fprintf(stderr, "usage: engine_bench swap|prefix [count] [threads]\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
