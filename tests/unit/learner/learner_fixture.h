// A tiny random model and groups sampled from it, for tests of the learner.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/rollout.h"
#include "model/model_config.h"
#include "model/ops/logprob.h"
#include "model/packed_attention.h"
#include "model/transformer.h"

namespace tramontane::testing {

inline std::shared_ptr<Transformer> TinyModel(uint64_t seed, at::ScalarType dtype = at::kFloat) {
  const ModelConfig config = ParseModelConfig(Json::parse(R"({
      "model_type": "qwen3", "vocab_size": 12, "hidden_size": 32, "intermediate_size": 64,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
      "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
      "tie_word_embeddings": true, "initializer_range": 0.1, "eos_token_id": 0})")).value();
  auto model = std::make_shared<Transformer>(config, at::kCPU, dtype);
  model->InitRandom(seed);
  return model;
}

inline RunConfig TinyRun() {
  RunConfig config;
  config.trainer.learning_rate = 1e-2;
  config.trainer.microbatch_tokens = 64;
  config.trainer.groups_per_step = 4;
  config.rollout.samples_per_group = 8;
  return config;
}

// Samples from the model itself by whole forward passes; every rollout is stamped with `version`.
class Sampler {
 public:
  Sampler(Transformer& model, uint32_t seed) : model_(model), rng_(seed) {}

  Rollout Sample(const std::vector<int32_t>& prompt, int tokens, int64_t version) {
    const at::NoGradGuard no_grad;
    Rollout rollout;
    std::vector<int64_t> sequence(prompt.begin(), prompt.end());
    for (int t = 0; t < tokens; ++t) {
      const auto length = static_cast<int64_t>(sequence.size());
      PackedAttention attention({0, length});
      const at::Tensor hidden =
          model_.Forward(at::tensor(sequence, at::kLong), at::arange(length, at::kLong), attention);
      const at::Tensor logp = model_.Logits(hidden.narrow(0, length - 1, 1)).to(at::kDouble).log_softmax(-1)[0];
      const double* values = logp.data_ptr<double>();
      std::vector<double> weights;
      for (int64_t v = 0; v < logp.numel(); ++v) weights.push_back(std::exp(values[v]));
      const int token = std::discrete_distribution<int>(weights.begin(), weights.end())(rng_);
      rollout.tokens.push_back(token);
      rollout.logprobs.push_back(static_cast<float>(values[token]));
      sequence.push_back(token);
    }
    rollout.spans = {{version, tokens}};
    rollout.finish_reason = FinishReason::kStop;
    rollout.verdict.status = VerdictStatus::kScored;
    return rollout;
  }

  // Groups of 8; the reward is the share of tokens equal to `wanted`.
  std::vector<Group> Groups(int count, int64_t version, int wanted = 3) {
    std::vector<Group> groups(count);
    for (int g = 0; g < count; ++g) {
      groups[g].task.gid = std::to_string(g);
      for (int t = 0; t <= g % 3; ++t) groups[g].task.row.prompt_tokens.push_back(1 + (g + t) % 11);
      for (int i = 0; i < 8; ++i) {
        Rollout rollout = Sample(groups[g].task.row.prompt_tokens, 1 + (i + g) % 5, version);
        double hits = 0;
        for (int32_t token : rollout.tokens) hits += token == wanted;
        rollout.verdict.score = hits / static_cast<double>(rollout.tokens.size());
        rollout.sample_index = i;
        groups[g].rollouts.push_back(std::move(rollout));
      }
    }
    return groups;
  }

 private:
  Transformer& model_;
  std::mt19937 rng_;
};

// What tests learn from in step 1, 2, …: groups that one model gave at versions 0, 1, ….
inline std::vector<std::vector<Group>> Batches(int count, int groups = 4) {
  auto model = TinyModel(1);
  Sampler sampler(*model, 7);
  std::vector<std::vector<Group>> batches;
  for (int i = 0; i < count; ++i) batches.push_back(sampler.Groups(groups, i));
  return batches;
}

inline at::Tensor Flat(const Transformer& model) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& parameter : model.parameters()) parts.push_back(parameter.detach().flatten());
  return at::cat(parts);
}

inline double MeanReward(const std::vector<Group>& groups) {
  double sum = 0, count = 0;
  for (const Group& group : groups) {
    for (const Rollout& rollout : group.rollouts) {
      sum += *rollout.verdict.score;
      count += 1;
    }
  }
  return sum / count;
}

}  // namespace tramontane::testing
