// Time of one learner step: 256 sequences of about 47 tokens (8 groups share prompts as in a run) on a
// 4 x 128 model, by phase.   learner_bench [threads] [microbatch_tokens] [steps]
#include <ATen/ATen.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "common/config.h"
#include "model/model_config.h"
#include "model/transformer.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

constexpr int kGroups = 32, kSamples = 8, kVocab = 264;

std::shared_ptr<Transformer> BenchModel() {
  const ModelConfig config = ParseModelConfig(Json::parse(R"({
      "model_type": "qwen3", "vocab_size": 264, "hidden_size": 128, "intermediate_size": 384,
      "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
      "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
      "tie_word_embeddings": true, "initializer_range": 0.02, "eos_token_id": 258})")).value();
  auto model = std::make_shared<Transformer>(config);
  model->InitRandom(1);
  return model;
}

std::vector<Group> BenchGroups() {
  std::mt19937 rng(1);
  std::vector<Group> groups(kGroups);
  for (Group& group : groups) {
    for (int t = 0; t < 8; ++t) group.task.row.prompt_tokens.push_back(static_cast<int32_t>(rng() % kVocab));
    for (int i = 0; i < kSamples; ++i) {
      Rollout rollout;
      const int length = 32 + static_cast<int>(rng() % 15);  // 39 on average
      for (int t = 0; t < length; ++t) {
        rollout.tokens.push_back(static_cast<int32_t>(rng() % kVocab));
        rollout.logprobs.push_back(-5.6f);
      }
      rollout.spans = {{0, length}};
      rollout.finish_reason = FinishReason::kStop;
      rollout.verdict.status = VerdictStatus::kScored;
      rollout.verdict.score = i % 3 == 0 ? 1.0 : 0.1;
      group.rollouts.push_back(std::move(rollout));
    }
  }
  return groups;
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int Main(int argc, char** argv) {
  RunConfig config;
  config.trainer.threads = argc > 1 ? std::atoi(argv[1]) : 1;
  config.trainer.microbatch_tokens = argc > 2 ? std::atoi(argv[2]) : 2048;
  const int steps = argc > 3 ? std::atoi(argv[3]) : 8;
  MetricsRegistry metrics;
  auto learner = Learner::Create(config, BenchModel(), metrics).value();
  const std::vector<Group> groups = BenchGroups();
  StepReport report;
  double cpu_best = 1e9, wall_best = 1e9;
  for (int64_t step = 1; step <= steps; ++step) {
    const double cpu = CpuSeconds();
    report = learner->Step(groups, step).value();
    cpu_best = std::min(cpu_best, CpuSeconds() - cpu);
    wall_best = std::min(wall_best, report.seconds);
  }
  std::printf("threads %d, microbatches %g, packed tokens %lld: best step %.3f s of wall, %.3f s of CPU\n",
              config.trainer.threads, report.metrics["microbatches"], static_cast<long long>(report.packed_tokens),
              wall_best, cpu_best);
  for (const auto& [phase, seconds] : report.phase_seconds) std::printf("  %-18s %.4f s\n", phase.c_str(), seconds);
  std::printf("  forward %.3f, backward %.3f core-seconds (last step)\n", report.metrics["forward_core_seconds"],
              report.metrics["backward_core_seconds"]);
  std::vector<char> payload;
  const double cpu = CpuSeconds();
  learner->Snapshot(steps, payload);
  std::printf("  snapshot %.4f s of CPU, %.1f MB\n", CpuSeconds() - cpu, 1e-6 * static_cast<double>(payload.size()));
  return 0;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
