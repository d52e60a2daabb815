// Generated tokens per second of the engine, by samples running side by side and threads.
//   generate_bench MODEL_DIR|tiny [new_tokens] [rounds]
// Prompts have 16 tokens (the last of `rounds` is reported with the best). `tiny` is a random
// model of 4 layers × 128 hidden.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "common/metrics.h"
#include "generator/engine.h"
#include "model/checkpoint.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

std::shared_ptr<Transformer> SmallModel() {
  ModelConfig config;
  config.family = "qwen3";
  config.vocab_size = 264;
  config.hidden_size = 128;
  config.intermediate_size = 384;
  config.num_layers = 4;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_position_embeddings = 4096;
  config.tie_word_embeddings = config.qk_norm = true;
  config.sliding_window = {0, 0, 0, 0};
  auto model = std::make_shared<Transformer>(config);
  model->InitRandom(1);
  return model;
}

double TokensPerSecond(Engine& engine, int32_t samples, int32_t new_tokens) {
  std::mutex mutex;
  std::condition_variable finished;
  int32_t missing = samples;
  const auto before = std::chrono::steady_clock::now();
  for (int32_t i = 0; i < samples; ++i) {
    SampleRequest request;
    request.id = std::to_string(i);
    for (int32_t t = 0; t < 16; ++t) request.prompt_tokens.push_back((i * 37 + t * 11) % 250);
    request.sampling.max_new_tokens = new_tokens;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.ignore_eos = true;
    request.on_finished = [&](Rollout) {
      std::lock_guard lock(mutex);
      if (--missing == 0) finished.notify_one();
    };
    if (const absl::Status status = engine.Submit(std::move(request)); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
  }
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return missing == 0; });
  return samples * new_tokens / SecondsSince(before);
}

int Main(int argc, char** argv) {
  const std::string dir = argc > 1 ? argv[1] : "tiny";
  const int32_t new_tokens = argc > 2 ? std::atoi(argv[2]) : 128;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  std::shared_ptr<Transformer> model;
  if (dir == "tiny") {
    model = SmallModel();
  } else {
    auto loaded = LoadTransformer(dir);
    if (!loaded.ok()) {
      std::fprintf(stderr, "%s\n", loaded.status().ToString().c_str());
      return 1;
    }
    model = *loaded;
  }
  std::printf("threads running tokens/s(best) tokens/s(last) ms/step\n");
  for (int threads : {1, 2}) {
    for (int32_t running : {1, 16, 64, 128}) {
      MetricsRegistry metrics;
      EngineOptions options;
      options.threads = threads;
      options.max_running_sequences = running;
      auto engine = Engine::Create(options, model, nullptr, metrics);
      if (!engine.ok()) return 1;
      double best = 0, last = 0;
      for (int round = 0; round < rounds; ++round) {
        last = TokensPerSecond(**engine, running, new_tokens);
        best = std::max(best, last);
      }
      std::printf("%7d %7d %14.0f %14.0f %7.3f\n", threads, running, best, last,
                  1000.0 * running / best);
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
