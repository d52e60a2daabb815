#include "generator/bench.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/metrics.h"
#include "common/status.h"
#include "generator/core/philox.h"
#include "model/checkpoint.h"
#include "model/ops/cpu/gemm.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

double Percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const size_t at = std::min(values.size() - 1, static_cast<size_t>(share * values.size()));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[at];
}

Json Percentiles(std::vector<double> values) {
  return {{"p50", Percentile(values, 0.5)},
          {"p90", Percentile(values, 0.9)},
          {"p99", Percentile(values, 0.99)}};
}

// Sums what it reads, so that nothing can be left out.
uint64_t ReadAll(const uint64_t* words, size_t count) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  return sum;
}

// Bytes per second that `threads` reach together over a buffer no cache holds; best of some passes.
double MemoryBandwidth(int threads) {
  constexpr size_t kBytes = size_t{512} << 20;
  constexpr int kPasses = 5;
  const std::vector<uint64_t> words(kBytes / sizeof(uint64_t), 1);
  const size_t share = words.size() / threads / 8 * 8;
  double best = 0;
  std::vector<uint64_t> sums(threads);
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto before = Clock::now();
    {
      std::vector<std::jthread> readers;
      for (int t = 0; t < threads; ++t)
        readers.emplace_back([&, t] { sums[t] = ReadAll(words.data() + t * share, share); });
    }
    best = std::max(best,
                    static_cast<double>(share * threads * sizeof(uint64_t)) / SecondsSince(before));
  }
  return sums[0] == share ? best : 0;  // 0 only if the reads were not done
}

int64_t HeadWeights(const ModelConfig& c) { return c.vocab_size * c.hidden_size; }

// What a decode step reads, when it goes through `touched` experts, over all layers.
double WeightBytesOf(const ModelConfig& c, const EngineOptions& engine, double touched) {
  const double bytes = engine.weights_dtype == "int8"       ? 1
                       : engine.weights_dtype == "bfloat16" ? 2
                                                            : 4;
  int64_t routers = 0, expert = 0;  // weights; experts are as wide in every layer
  for (int64_t l = 0; l < c.num_layers; ++l) {
    if (c.layers[l].experts == 0) continue;
    routers += c.layers[l].experts * c.hidden_size;
    expert = 3 * c.layers[l].mlp_width * c.hidden_size;
  }
  const int64_t always =
      c.matrix_weights() - routers - c.expert_layers() * c.experts_per_token * expert;
  return bytes * (static_cast<double>(always) + touched * static_cast<double>(expert)) +
         4.0 * static_cast<double>(routers + HeadWeights(c));
}

// When each token of each sample came.
struct Timings {
  std::mutex mutex;
  std::condition_variable finished;
  int32_t missing = 0;
  bool failed = false;
  std::vector<std::vector<Clock::time_point>> tokens;  // by sample

  bool Wait() {
    std::unique_lock lock(mutex);
    finished.wait(lock, [this] { return missing == 0; });
    return !failed;
  }
};

SampleRequest Request(int32_t sample, const BenchOptions& options, int64_t vocab,
                      Timings& timings) {
  SampleRequest request;
  request.id = std::to_string(sample);
  for (int32_t t = 0; t < options.prompt_tokens; ++t)
    request.prompt_tokens.push_back(
        static_cast<int32_t>(UniformDraw(7, sample, t) * static_cast<double>(vocab)));
  request.sampling.max_new_tokens = options.new_tokens;
  request.sampling.seed = static_cast<uint64_t>(sample);
  request.sampling.ignore_eos = true;
  request.on_chunk = [sample, &timings](const TokenChunk& chunk) {
    auto& times = timings.tokens[sample];  // the engine thread's until the sample has finished
    times.insert(times.end(), chunk.tokens.size(), Clock::now());
  };
  request.on_finished = [&timings](const Rollout& rollout) {
    std::lock_guard lock(timings.mutex);
    timings.failed |= rollout.finish_reason != FinishReason::kLength;
    if (--timings.missing == 0) timings.finished.notify_one();
  };
  return request;
}

struct Round {
  double seconds = 0;
  std::vector<double> first_ms, between_ms;
};

absl::StatusOr<Round> RunRound(Engine& engine, int32_t batch, int64_t vocab,
                               const BenchOptions& options) {
  Timings timings;
  timings.missing = batch;
  timings.tokens.resize(batch);
  std::vector<SampleRequest> requests;
  for (int32_t i = 0; i < batch; ++i) {
    timings.tokens[i].reserve(options.new_tokens);
    requests.push_back(Request(i, options, vocab, timings));
  }
  const auto before = Clock::now();
  for (SampleRequest& request : requests) RETURN_IF_ERROR(engine.Submit(std::move(request)));
  if (!timings.Wait())
    return absl::InternalError("a sample failed: " + engine.stats().unhealthy_reason);
  Round round{.seconds = SecondsSince(before), .first_ms = {}, .between_ms = {}};
  for (const auto& times : timings.tokens) {
    round.first_ms.push_back(Milliseconds(times.front() - before));
    for (size_t i = 1; i < times.size(); ++i)
      round.between_ms.push_back(Milliseconds(times[i] - times[i - 1]));
  }
  return round;
}

absl::StatusOr<Json> RunBatchSize(const std::shared_ptr<Transformer>& model, int32_t batch,
                                  double bandwidth, const BenchOptions& options) {
  const ModelConfig config = model->config();
  EngineOptions engine_options = options.engine;
  engine_options.max_running_sequences = batch;
  engine_options.max_waiting_sequences = batch;
  const int32_t per_sample =
      (options.prompt_tokens + options.new_tokens) / engine_options.kv_block_tokens + 2;
  engine_options.kv_blocks = per_sample * (batch + 1);
  engine_options.count_experts = true;
  engine_options.prefix_cache = false;  // every round has the same prompts, and computes them
  MetricsRegistry metrics;
  ASSIGN_OR_RETURN(const auto engine, Engine::Create(engine_options, model, nullptr, metrics));
  Round best;
  for (int32_t r = 0; r < options.rounds; ++r) {
    ASSIGN_OR_RETURN(Round round, RunRound(*engine, batch, config.vocab_size, options));
    if (r == 0 || round.seconds < best.seconds) best = std::move(round);
  }
  const double tokens_per_second = batch * options.new_tokens / best.seconds;
  const double steps_per_second = tokens_per_second / batch;
  const double context = options.prompt_tokens + options.new_tokens / 2.0;
  double kv_bytes = 0;
  for (int64_t l = 0; l < config.num_layers; ++l)
    kv_bytes += batch * context * 2.0 * static_cast<double>(config.kv_size(l)) * 4;
  const EngineStats stats = engine->stats();
  const double touched = stats.decode_steps == 0 ? 0
                                                 : static_cast<double>(stats.touched_experts) /
                                                       static_cast<double>(stats.decode_steps);
  const double step_bytes = WeightBytesOf(config, options.engine, touched) + kv_bytes;
  const double flop_per_token =
      2.0 * static_cast<double>(config.matrix_weights() + HeadWeights(config)) +
      4.0 * context * static_cast<double>(config.q_size() * config.attention_layers());
  Json run = {{"batch", batch},
              {"tokens_per_second", tokens_per_second},
              {"step_ms", 1000 / steps_per_second},
              {"ttft_ms", Percentiles(best.first_ms)},
              {"inter_token_ms", Percentiles(best.between_ms)},
              {"step_bytes", step_bytes},
              {"gb_per_s", step_bytes * steps_per_second / 1e9},
              {"roofline_share", step_bytes * steps_per_second / bandwidth},
              {"gflop_per_s", flop_per_token * tokens_per_second / 1e9}};
  if (config.expert_layers() > 0)
    run["experts_per_layer"] = touched / static_cast<double>(config.expert_layers());
  return run;
}

}  // namespace

absl::StatusOr<Json> BenchGenerate(const std::string& model_dir, const BenchOptions& options) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Transformer> model, LoadTransformer(model_dir));
  int64_t parameters = 0;
  for (const auto& [name, tensor] : model->NamedWeights()) parameters += tensor.numel();
  const double bandwidth = MemoryBandwidth(options.engine.threads);
  if (bandwidth <= 0) return absl::InternalError("the memory bandwidth could not be measured");
  Json runs = Json::array();
  for (const int32_t batch : options.batches) {
    ASSIGN_OR_RETURN(Json run, RunBatchSize(model, batch, bandwidth, options));
    runs.push_back(std::move(run));
  }
  return Json{{"model", model_dir},
              {"parameters", parameters},
              {"engine", options.engine.engine},
              {"weights_dtype", options.engine.weights_dtype},
              {"threads", options.engine.threads},
              {"isa", kernels::Gemm().isa},
              {"prompt_tokens", options.prompt_tokens},
              {"new_tokens", options.new_tokens},
              {"rounds", options.rounds},
              {"memory_gb_per_s", bandwidth / 1e9},
              {"runs", std::move(runs)}};
}

}  // namespace tramontane
