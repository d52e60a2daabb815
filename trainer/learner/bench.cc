#include "trainer/learner/bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <numbers>
#include <random>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "common/status.h"
#include "model/checkpoint.h"
#include "model/guard_torch.h"
#include "model/transformer.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/model_flop.h"
#include "trainer/learner/worker_pool.h"
#include "trainer/ranks/trainer_ranks.h"

namespace tramontane {
namespace {

constexpr double kMib = 1 << 20;
constexpr int64_t kBenchPeakSide = 1024;

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

double PeakMemoryMib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;  // kept in KiB
}

double Median(std::vector<double> values) {
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle),
                   values.end());
  return values[middle];
}

constexpr double kRaggedMedian = 0.4, kRaggedSigma = 0.7;

// One for each sample. Written out, so that they are the same with any standard library.
absl::StatusOr<std::vector<int32_t>> ResponseLengths(const TrainBenchOptions& options) {
  std::vector<int32_t> lengths(static_cast<size_t>(options.groups * options.samples),
                               options.response_tokens);
  if (options.lengths == "equal") return lengths;
  if (options.lengths != "ragged")
    return absl::InvalidArgumentError("--lengths: equal or ragged, not " + options.lengths);
  std::mt19937_64 random(2);
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  for (int32_t& length : lengths) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    const double normal = radius * std::cos(2 * std::numbers::pi * uniform());
    const double wanted = kRaggedMedian * options.response_tokens * std::exp(kRaggedSigma * normal);
    length = static_cast<int32_t>(std::clamp<double>(std::ceil(wanted), 1, length));
  }
  return lengths;
}

std::vector<Group> RandomGroups(const TrainBenchOptions& options,
                                const std::vector<int32_t>& lengths, int64_t vocab_size) {
  std::mt19937_64 random(1);
  const auto token = [&] {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  };
  std::vector<Group> groups(static_cast<size_t>(options.groups));
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].task.gid = std::to_string(g);
    for (int t = 0; t < options.prompt_tokens; ++t)
      groups[g].task.row.prompt_tokens.push_back(token());
    for (int i = 0; i < options.samples; ++i) {
      Rollout rollout;
      rollout.sample_index = i;
      const int32_t length =
          lengths[g * static_cast<size_t>(options.samples) + static_cast<size_t>(i)];
      for (int t = 0; t < length; ++t) rollout.tokens.push_back(token());
      rollout.logprobs.assign(rollout.tokens.size(), -5.0f);
      rollout.spans = {{0, length}};
      rollout.finish_reason = FinishReason::kStop;
      rollout.verdict.status = VerdictStatus::kScored;
      rollout.verdict.score = i % 2 == 0 ? 1.0 : 0.0;
      rollout.verdict.correct = i % 2 == 0;
      groups[g].rollouts.push_back(std::move(rollout));
    }
  }
  return groups;
}

double WeightMib(const Transformer& model) {
  double bytes = 0;
  for (const auto& [name, weight] : model.NamedWeights())
    bytes += static_cast<double>(weight.nbytes());
  return bytes / kMib;
}

absl::StatusOr<RunConfig> BenchConfig(const TrainBenchOptions& options) {
  RunConfig config;
  if (!options.algorithm.empty()) {
    const Json json = Json::parse(options.algorithm, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return absl::InvalidArgumentError("--algorithm: not JSON");
    ASSIGN_OR_RETURN(config.algorithm, AlgorithmFromJson(json));
  }
  config.trainer.threads = options.threads;
  config.trainer.ranks = options.ranks;
  config.trainer.zero = options.zero;
  config.trainer.share_prompts = options.share_prompts;
  config.trainer.activation_checkpointing = options.activation_checkpointing;
  config.trainer.dtype = options.dtype;
  config.lora.rank = options.lora_rank;
  config.trainer.microbatch_tokens = options.microbatch_tokens;
  config.trainer.logprob_gap_alarm = 1e9;  // nobody sampled these tokens
  // Other ranks are told the configuration, and validate it as that of a run.
  config.model.path = config.data.train = "none";
  config.verifiers["math"].builtin = "math";
  RETURN_IF_ERROR(Validate(config));
  return config;
}

struct Measured {
  std::vector<double> seconds, cpu_seconds;
  std::vector<StepReport> reports;
};

absl::StatusOr<Measured> MeasureSteps(Learner& learner, const std::vector<Group>& groups,
                                      int32_t steps) {
  Measured measured;
  for (int64_t step = 1; step <= steps + 1; ++step) {
    const double cpu = ProcessCpuSeconds();
    ASSIGN_OR_RETURN(StepReport report, learner.Step(groups, step));
    if (report.skipped)
      return absl::InternalError("step " + std::to_string(step) + ": " + report.skip_reason);
    if (step == 1) continue;  // allocators and caches are cold
    measured.cpu_seconds.push_back(ProcessCpuSeconds() - cpu);
    measured.seconds.push_back(report.seconds);
    measured.reports.push_back(std::move(report));
  }
  return measured;
}

void AddPhases(const Measured& measured, double median, Json& out) {
  std::map<std::string, std::vector<double>> phases;
  for (const StepReport& report : measured.reports) {
    for (const auto& [phase, seconds] : report.phase_seconds) phases[phase].push_back(seconds);
  }
  for (const auto& [phase, seconds] : phases) {
    out["phase_seconds"][phase] = Median(seconds);
    out["phase_share"][phase] = Median(seconds) / median;
  }
}

void AddMemory(MetricsRegistry& metrics, Json& out) {
  for (const char* kind : {"moments", "gradients"}) {
    const double bytes =
        metrics.MakeGauge("tramontane_trainer_optimiser_bytes", {{"kind", kind}}).Value();
    out[std::string(kind).substr(0, std::strlen(kind) - 1) + "_mib"] = bytes / kMib;
  }
}

void AddTraffic(const Measured& measured, Json& out) {
  std::vector<double> seconds, bytes;
  for (const StepReport& report : measured.reports) {
    seconds.push_back(report.metrics.at("rank_seconds"));
    bytes.push_back(report.metrics.at("rank_bytes"));
  }
  out["rank_seconds"] = Median(seconds);
  out["rank_mib"] = Median(bytes) / kMib;
}

absl::StatusOr<Json> Bench(const std::string& model_dir, const TrainBenchOptions& options) {
  RETURN_IF_ERROR(GuardTorch([] { at::set_num_threads(1); }));
  std::shared_ptr<Transformer> model;
  ASSIGN_OR_RETURN(model, LoadTransformer(model_dir));
  ASSIGN_OR_RETURN(const RunConfig config, BenchConfig(options));
  ASSIGN_OR_RETURN(const std::vector<int32_t> lengths, ResponseLengths(options));
  const std::vector<Group> groups = RandomGroups(options, lengths, model->config().vocab_size);
  MetricsRegistry metrics;
  ASSIGN_OR_RETURN(const TrainerRanks ranks, TrainerRanks::Start(config.trainer));
  std::unique_ptr<Learner> learner;
  ASSIGN_OR_RETURN(learner, Learner::Create(config, model, metrics, ranks.group()));
  ASSIGN_OR_RETURN(const Measured measured, MeasureSteps(*learner, groups, options.steps));

  int64_t parameters = 0;
  for (const auto& [name, weight] : model->NamedWeights()) parameters += weight.numel();
  const double median = Median(measured.seconds);
  const double flop = measured.reports.back().metrics.at("model_flop");
  const int64_t input_tokens = measured.reports.back().input_tokens,
                packed_tokens = measured.reports.back().packed_tokens;
  Json out = {{"model", model_dir},
              {"parameters", parameters},
              {"threads", options.threads},
              {"ranks", options.ranks},
              {"zero", options.zero},
              {"activation_checkpointing", options.activation_checkpointing},
              {"share_prompts", options.share_prompts},
              {"dtype", options.dtype},
              {"lora_rank", options.lora_rank},
              {"microbatch_tokens", options.microbatch_tokens},
              {"groups", options.groups},
              {"samples", options.samples},
              {"prompt_tokens", options.prompt_tokens},
              {"response_tokens", options.response_tokens},
              {"lengths", options.lengths},
              {"response_lengths", lengths},
              {"steps", options.steps},
              {"step_seconds",
               {{"best", *std::min_element(measured.seconds.begin(), measured.seconds.end())},
                {"median", median}}},
              {"cpu_seconds_per_step", Median(measured.cpu_seconds)},
              {"input_tokens", input_tokens},
              {"packed_tokens", packed_tokens},
              {"tokens_per_second", static_cast<double>(input_tokens) / median},
              {"packed_tokens_per_second", static_cast<double>(packed_tokens) / median},
              {"response_tokens_per_second",
               static_cast<double>(measured.reports.back().response_tokens) / median},
              {"weight_mib", WeightMib(*model)},
              {"gflop_per_step", 1e-9 * flop},
              {"gflop_per_s", 1e-9 * flop / median}};
  AddPhases(measured, median, out);
  AddMemory(metrics, out);
  if (ranks.group() != nullptr) AddTraffic(measured, out);
  std::vector<char> payload;
  const auto start = std::chrono::steady_clock::now();
  learner->Snapshot(options.steps, payload);
  out["snapshot_seconds"] = SecondsSince(start);
  out["peak_memory_mib"] = PeakMemoryMib();
  RETURN_IF_ERROR(GuardTorch([&] {
    WorkerPool workers(options.threads, [] { at::set_num_threads(1); });
    const double peak = options.ranks * MultiplyPeakFlops(workers, kBenchPeakSide);
    out["peak_gflop_per_s"] = 1e-9 * peak;
    out["model_flop_share"] = flop / median / peak;
  }));
  return out;
}

}  // namespace

absl::StatusOr<Json> BenchTrain(const std::string& model_dir, const TrainBenchOptions& options) {
  if (options.samples < 2)
    return absl::InvalidArgumentError("--samples: groups of one have nothing to compare");
  return Bench(model_dir, options);
}

}  // namespace tramontane
