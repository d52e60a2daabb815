// The fused decoder against LibTorch's on random models: every family, rotation and oddity, through
// plans with chunked prefill, shared prompts, preemption and decoding side by side.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "generator/core/scheduler.h"
#include "generator/fused_decoder.h"
#include "generator/make_decoder.h"
#include "generator/torch_decoder.h"
#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

using Json = nlohmann::json;

// Norms and biases away from their trivial starts.
std::shared_ptr<Transformer> RandomModel(const Json& fields, uint64_t seed) {
  Json json = {{"vocab_size", 77},
               {"hidden_size", 48},
               {"intermediate_size", 88},
               {"num_hidden_layers", 3},
               {"num_attention_heads", 4},
               {"num_key_value_heads", 2},
               {"max_position_embeddings", 256},
               {"initializer_range", 0.15}};
  json.update(fields);
  auto config = ParseModelConfig(json);
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = std::make_shared<Transformer>(*config);
  model->InitRandom(seed);
  const at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(seed + 1);
  for (auto& [name, tensor] : model->NamedWeights()) {
    if (tensor.dim() == 1) tensor.add_(at::normal(0.0, 0.2, tensor.sizes(), generator));
  }
  return model;
}

struct Fleet {
  EngineOptions options;
  int32_t requests = 5, samples = 2, prompt = 21, length = 60;
};

// Runs sequences to their lengths and hands every plan to `step`. Tokens are a function of sequence
// and position, so that every run sees the same ones.
class Drill {
 public:
  Drill(const Fleet& fleet, int64_t vocab, int32_t only = -1)
      : scheduler_({.max_running_sequences = fleet.options.max_running_sequences,
                    .block_tokens = fleet.options.kv_block_tokens,
                    .total_blocks = fleet.options.kv_blocks,
                    .prefill_chunk_tokens = fleet.options.prefill_chunk_tokens}),
        vocab_(vocab) {
    for (int32_t i = 0; i < fleet.requests * fleet.samples; ++i) {
      if (only >= 0 && only != i) continue;
      auto sequence = std::make_unique<Sequence>();
      sequence->id = i;
      sequence->request = i / fleet.samples;
      sequence->prompt_size = fleet.prompt + 5 * static_cast<int32_t>(sequence->request);
      for (int32_t t = 0; t < sequence->prompt_size; ++t)
        sequence->tokens.push_back(Token(sequence->request + 1000, t));
      goal_[i] = sequence->prompt_size + fleet.length - 3 * i;
      scheduler_.Add(*sequence);
      sequences_.push_back(std::move(sequence));
    }
  }

  template <class F>
  void Run(F&& step) {
    Run(std::forward<F>(step), [](const StepPlan&) {});
  }
  // `after` sees the step's rows whose next token is known once it has been drawn.
  template <class F, class G>
  void Run(F&& step, G&& after) {
    while (scheduler_.running() + scheduler_.waiting() > 0) {
      const StepPlan& plan = scheduler_.Plan();
      step(plan);
      const std::vector<StepItem> items = plan.items;
      scheduler_.Complete();
      StepPlan known;
      for (StepItem item : items) {
        if (item.samples)
          item.sequence->tokens.push_back(Token(item.sequence->id, item.sequence->size()));
        item.logit_rows = item.samples ? 1 : 0;
        known.logit_rows += item.logit_rows;
        known.tokens += item.count;
        known.items.push_back(item);
      }
      after(known);
      for (const StepItem& item : items) {
        Sequence& sequence = *item.sequence;
        if (item.samples && sequence.size() >= goal_.at(sequence.id)) scheduler_.Remove(sequence);
      }
    }
  }
  uint64_t preemptions() const { return scheduler_.preemptions(); }

 private:
  int32_t Token(uint64_t of, int32_t position) const {
    return static_cast<int32_t>((of * 7919 + position * 104729 + of * position * 13) % vocab_);
  }

  Scheduler scheduler_;
  const int64_t vocab_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::map<uint64_t, int32_t> goal_;
};

double WorstGap(std::span<const float> a, std::span<const float> b) {
  const auto lse = [](std::span<const float> row) {
    double top = *std::max_element(row.begin(), row.end()), sum = 0;
    for (float v : row) sum += std::exp(v - top);
    return top + std::log(sum);
  };
  const double lse_a = lse(a), lse_b = lse(b);
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs((a[i] - lse_a) - (b[i] - lse_b)));
  return worst;
}

Fleet Mixed() {
  Fleet fleet;
  fleet.options.kv_blocks = 200;
  fleet.options.kv_block_tokens = 8;
  fleet.options.prefill_chunk_tokens = 17;
  return fleet;
}

std::unique_ptr<FusedDecoder> Fused(const EngineOptions& options, const Transformer& model) {
  auto decoder = FusedDecoder::Create(options, model);
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  return decoder.ok() ? *std::move(decoder) : nullptr;
}

double Compare(const std::shared_ptr<Transformer>& model, const Fleet& fleet) {
  const auto fused = Fused(fleet.options, *model);
  TorchDecoder torch(fleet.options, model);
  double worst = 0;
  int64_t compared = 0;
  Drill drill(fleet, model->config().vocab_size);
  drill.Run([&](const StepPlan& plan) {
    const auto a = fused->Forward(plan), b = torch.Forward(plan);
    ASSERT_TRUE(a.ok() && b.ok());
    const auto routes = fused->routes(), expected = torch.routes();
    ASSERT_EQ(routes.size(), static_cast<size_t>(plan.tokens * model->config().route_size()));
    ASSERT_TRUE(std::equal(routes.begin(), routes.end(), expected.begin(), expected.end()));
    for (int32_t row = 0; row < plan.logit_rows; ++row, ++compared)
      worst = std::max(worst, WorstGap((*a)[row], (*b)[row]));
  });
  EXPECT_GT(compared, 100);
  return worst;
}

TEST(DecoderParity, TheHeadForeseesTheSameTokens) {
  for (const Json& more :
       {Json::object(),
        Json{{"layers",
              Json::parse(R"([{}, {"num_key_value_heads": 0}, {"intermediate_size": 0}])")}}}) {
    Json fields = {{"model_type", "mimo"}, {"num_nextn_predict_layers", 1}};
    fields.update(more);
    const auto model = RandomModel(fields, 71);
    const Fleet fleet = Mixed();
    EXPECT_LT(Compare(model, fleet), 2e-5);
    const auto fused = Fused(fleet.options, *model);
    TorchDecoder torch(fleet.options, model);
    int64_t compared = 0, differing = 0;
    std::map<int32_t, int64_t> seen;
    Drill drill(fleet, model->config().vocab_size);
    drill.Run(
        [&](const StepPlan& plan) {
          ASSERT_TRUE(fused->Forward(plan).ok());
          ASSERT_TRUE(torch.Forward(plan).ok());
        },
        [&](const StepPlan& known) {
          const auto a = fused->Foresee(known), b = torch.Foresee(known);
          ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
          ASSERT_EQ(a->size(), static_cast<size_t>(known.logit_rows));
          ASSERT_EQ(a->size(), b->size());
          for (size_t i = 0; i < a->size(); ++i, ++compared) {
            differing += (*a)[i] != (*b)[i];  // all but equal logits may change places
            ++seen[(*a)[i]];
          }
        });
    EXPECT_GT(compared, 100);
    EXPECT_LT(differing, compared / 100);
    EXPECT_GT(seen.size(), 10u);
  }
}

struct Kind {
  const char* name;
  Json fields;
};

TEST(DecoderParity, HoldsForEveryFamilyAndRotation) {
  const auto rope = [](const char* kind, Json more = Json::object()) {
    Json scaling = {{"rope_type", kind}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
    scaling.update(more);
    return Json{{"rope_scaling", scaling}};
  };
  const auto with = [](Json base, const Json& more) {
    base.update(more);
    return base;
  };
  const Json llama = {{"model_type", "llama"}};
  const std::vector<Kind> kinds = {
      {"llama", llama},
      {"llama biases tied",
       with(llama, {{"attention_bias", true}, {"mlp_bias", true}, {"tie_word_embeddings", true}})},
      {"llama no groups", with(llama, {{"num_key_value_heads", 4}})},
      {"llama one kv head", with(llama, {{"num_key_value_heads", 1}, {"head_dim", 10}})},
      {"llama3 rope",
       with(llama, rope("llama3", {{"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}}))},
      {"linear rope", with(llama, rope("linear"))},
      {"dynamic rope", with(llama, rope("dynamic"))},
      {"yarn", with({{"model_type", "qwen3"}, {"head_dim", 16}}, rope("yarn"))},
      {"mistral window", {{"model_type", "mistral"}, {"sliding_window", 13}, {"head_dim", 20}}},
      {"qwen2 window",
       {{"model_type", "qwen2"},
        {"use_sliding_window", true},
        {"sliding_window", 9},
        {"max_window_layers", 1}}},
      {"qwen3 tied", {{"model_type", "qwen3"}, {"head_dim", 32}, {"tie_word_embeddings", true}}},
      {"qwen3 biases", {{"model_type", "qwen3"}, {"head_dim", 6}, {"attention_bias", true}}},
      {"odd widths", with(llama, {{"hidden_size", 36},
                                  {"intermediate_size", 51},
                                  {"vocab_size", 131},
                                  {"head_dim", 18}})},
      {"differing layers",
       with(llama, {{"num_hidden_layers", 5},
                    {"layers", Json::parse(R"([{"num_key_value_heads": 1}, {"intermediate_size": 0},
                        {"num_key_value_heads": 0, "intermediate_size": 150}, {},
                        {"num_key_value_heads": 4, "intermediate_size": 33}])")}})},
      {"attention-free ends",
       with(llama, {{"layers", Json::parse(R"([{"num_key_value_heads": 0}, {"intermediate_size": 0},
                        {"num_key_value_heads": 0, "intermediate_size": 51}])")}})},
      {"no attention",
       with(llama, {{"num_hidden_layers", 2}, {"layers", Json::parse(R"([{"num_key_value_heads": 0},
                        {"num_key_value_heads": 0}])")}})},
      {"nemotron-nas",
       {{"model_type", "nemotron-nas"},
        {"num_hidden_layers", 2},
        {"block_configs", Json::parse(R"([{"attention": {"no_op": true}, "ffn": {"ffn_mult": 2}},
            {"attention": {"n_heads_in_group": 4}, "ffn": {"no_op": true}}])")}}},
      {"qwen3 mixture",
       {{"model_type", "qwen3_moe"},
        {"num_experts", 7},
        {"num_experts_per_tok", 3},
        {"moe_intermediate_size", 40},
        {"norm_topk_prob", true},
        {"mlp_only_layers", {1}}}},
      {"qwen3 mixture, plain shares, many experts",
       {{"model_type", "qwen3_moe"},
        {"num_experts", 40},
        {"num_experts_per_tok", 8},
        {"moe_intermediate_size", 17},
        {"use_sliding_window", true},
        {"sliding_window", 11}}},
      {"mixtral", {{"model_type", "mixtral"}, {"num_local_experts", 4}}},
      {"mixtral, one expert a token",
       {{"model_type", "mixtral"},
        {"num_local_experts", 5},
        {"num_experts_per_tok", 1},
        {"tie_word_embeddings", true}}},
      {"mixtral without attention in the end",
       {{"model_type", "mixtral"},
        {"num_local_experts", 3},
        {"layers", Json::parse(R"([{}, {"intermediate_size": 0}, {"num_key_value_heads": 0}])")}}},
      {"one layer", with(llama, {{"num_hidden_layers", 1}, {"intermediate_size", 7}})},
  };
  uint64_t seed = 40;
  for (const Kind& kind : kinds)
    EXPECT_LT(Compare(RandomModel(kind.fields, ++seed), Mixed()), 2e-5) << kind.name;
}

TEST(DecoderParity, HoldsAtLargerWidthsAndWithTwoThreads) {
  const auto model = RandomModel({{"model_type", "qwen3"},
                                  {"hidden_size", 256},
                                  {"head_dim", 64},
                                  {"intermediate_size", 704},
                                  {"vocab_size", 600},
                                  {"initializer_range", 0.05}},
                                 8);
  Fleet fleet = Mixed();
  fleet.options.threads = 2;
  fleet.options.kv_block_tokens = 16;
  EXPECT_LT(Compare(model, fleet), 2e-5);
  const auto mixture = RandomModel({{"model_type", "mixtral"},
                                    {"hidden_size", 192},
                                    {"intermediate_size", 320},
                                    {"num_local_experts", 6},
                                    {"initializer_range", 0.06}},
                                   9);
  EXPECT_LT(Compare(mixture, fleet), 2e-5);
}

// The layers' matrices as `dtype` holds them, in float32.
void RoundMatrices(Transformer& model, const std::string& dtype) {
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : model.NamedWeights()) {
    if (tensor.dim() != 2 || name.find("_proj.") == std::string::npos) continue;
    if (dtype == "bfloat16") {
      tensor.copy_(tensor.to(at::kBFloat16).to(at::kFloat));
    } else {
      const at::Tensor most = tensor.abs().amax(1, /*keepdim=*/true);
      tensor.copy_((tensor * (127 / most)).round() * (most / 127));
    }
  }
}

TEST(DecoderParity, RoundedWeightsComputeWhatAnOracleWithTheSameRoundingDoes) {
  for (const char* dtype : {"bfloat16", "int8"}) {
    const auto model = RandomModel(
        {{"model_type", "llama"}, {"attention_bias", true}, {"mlp_bias", true}}, 12);
    Fleet fleet = Mixed();
    fleet.options.weights_dtype = dtype;
    const double against_exact = Compare(model, fleet);
    RoundMatrices(*model, dtype);
    EXPECT_LT(Compare(model, fleet), 2e-5) << dtype;
    EXPECT_GT(against_exact, 1e-4) << dtype;
  }
}

TEST(FusedDecoder, ResultsDoNotDependOnTheBatchChunksOrThreads) {
  for (const Json& fields :
       {Json{{"model_type", "qwen3"}, {"head_dim", 32}},
        Json{{"model_type", "mistral"}, {"sliding_window", 24}, {"hidden_size", 160}},
        Json{{"model_type", "mixtral"}, {"hidden_size", 160}, {"num_local_experts", 4}}}) {
    const auto model = RandomModel(fields, 3);
    Fleet together = Mixed();
    together.options.threads = 2;
    together.options.kv_block_tokens = 16;
    together.options.kv_blocks = 22;
    std::map<std::pair<uint64_t, int32_t>, std::vector<float>> logits;
    const auto crowded = Fused(together.options, *model);
    Drill crowd(together, model->config().vocab_size);
    crowd.Run([&](const StepPlan& plan) {
      const auto rows = crowded->Forward(plan);
      int32_t row = 0;
      for (const StepItem& item : plan.items) {
        if (!item.samples) continue;
        const auto one = (*rows)[row++];
        auto& kept = logits[{item.sequence->id, item.sequence->size()}];
        if (!kept.empty()) {  // computed again after a preemption
          ASSERT_EQ(std::memcmp(kept.data(), one.data(), one.size_bytes()), 0);
        }
        kept.assign(one.begin(), one.end());
      }
    });
    EXPECT_GT(crowd.preemptions(), 0u);
    Fleet alone = Mixed();
    alone.options.kv_block_tokens = 16;
    alone.options.prefill_chunk_tokens = 512;
    const auto solo = Fused(alone.options, *model);
    size_t compared = 0;
    for (int32_t i = 0; i < together.requests * together.samples; ++i) {
      Drill drill(alone, model->config().vocab_size, i);
      drill.Run([&](const StepPlan& plan) {
        const auto rows = solo->Forward(plan);
        if (plan.logit_rows == 0) return;
        const Sequence& sequence = *plan.items[0].sequence;
        const std::vector<float>& expected = logits.at({sequence.id, sequence.size()});
        ASSERT_EQ(std::memcmp(expected.data(), (*rows)[0].data(), (*rows)[0].size_bytes()), 0)
            << "sequence " << sequence.id << " at " << sequence.size();
        ++compared;
      });
    }
    EXPECT_EQ(compared, logits.size());
  }
}

TEST(FusedDecoder, ScoresAsTheOtherDoes) {
  const auto model = RandomModel({{"model_type", "qwen2"}}, 4);
  const auto fused = Fused({}, *model);
  TorchDecoder torch({}, model);
  std::vector<int32_t> tokens;
  for (int32_t t = 0; t < 90; ++t) tokens.push_back(t * 31 % 77);
  for (const size_t size : {0u, 1u, 2u, 17u, 90u}) {
    const auto a = fused->Score({tokens.begin(), tokens.begin() + size});
    const auto b = torch.Score({tokens.begin(), tokens.begin() + size});
    ASSERT_TRUE(a.ok() && b.ok());
    ASSERT_EQ(a->size(), size < 2 ? 0 : size - 1);
    ASSERT_EQ(a->size(), b->size());
    for (size_t i = 0; i < a->size(); ++i) ASSERT_NEAR((*a)[i], (*b)[i], 2e-5) << i;
  }
  tokens.resize(257, 1);
  EXPECT_EQ(fused->Score(tokens).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MakeDecoder, FallsBackToTorchForModelsThatTheFusedEngineDoesNotKnow) {
  const auto tiny = TinyModel(1);
  MetricsRegistry metrics;
  EngineOptions options;
  const auto decoder_is_fused = [&](const std::shared_ptr<Transformer>& model) {
    const auto decoder = MakeDecoder(options, model, metrics);
    EXPECT_TRUE(decoder.ok()) << decoder.status();
    return dynamic_cast<FusedDecoder*>(decoder->get()) != nullptr;
  };
  EXPECT_TRUE(decoder_is_fused(tiny));
  const auto wide = std::make_shared<Transformer>(tiny->config(), at::kCPU, at::kDouble);
  wide->InitRandom(1);
  EXPECT_FALSE(decoder_is_fused(wide));
  options.engine = "torch";
  EXPECT_FALSE(decoder_is_fused(tiny));
  options.weights_dtype = "int8";
  EXPECT_EQ(MakeDecoder(options, tiny, metrics).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.weights_dtype = "int4";
  options.engine = "fused";
  EXPECT_EQ(MakeDecoder(options, tiny, metrics).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.weights_dtype = "float32";
  options.engine = "other";
  EXPECT_EQ(MakeDecoder(options, tiny, metrics).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tramontane
