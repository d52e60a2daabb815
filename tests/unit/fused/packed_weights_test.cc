#include "model/fused/packed_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/fused/fused_model.h"

namespace tramontane {
namespace {

ModelConfig Tiny() {
  ModelConfig c;
  c.family = "qwen2";
  c.vocab_size = 11;
  c.hidden_size = 6;
  c.num_layers = 1;
  c.num_heads = 2;
  c.head_dim = 4;
  c.max_position_embeddings = 64;
  c.tie_word_embeddings = true;
  c.attention_qkv_bias = true;
  c.layers = {{.kv_heads = 1, .mlp_width = 10}};
  return c;
}

std::map<std::string, std::vector<float>> Tensors(const ModelConfig& c) {
  std::map<std::string, std::vector<float>> tensors;
  float next = 0;
  const auto add = [&](const std::string& name, int64_t size) {
    for (int64_t i = 0; i < size; ++i) tensors[name].push_back(std::sin(next += 1));
  };
  add("model.embed_tokens.weight", c.vocab_size * c.hidden_size);
  add("model.norm.weight", c.hidden_size);
  const std::string layer = "model.layers.0.";
  add(layer + "input_layernorm.weight", c.hidden_size);
  add(layer + "post_attention_layernorm.weight", c.hidden_size);
  for (const auto& [part, rows] :
       {std::pair{"q", c.q_size()}, {"k", c.kv_size(0)}, {"v", c.kv_size(0)}}) {
    add(layer + "self_attn." + part + "_proj.weight", rows * c.hidden_size);
    add(layer + "self_attn." + part + "_proj.bias", rows);
  }
  add(layer + "self_attn.o_proj.weight", c.q_size() * c.hidden_size);
  add(layer + "mlp.gate_proj.weight", c.layers[0].mlp_width * c.hidden_size);
  add(layer + "mlp.up_proj.weight", c.layers[0].mlp_width * c.hidden_size);
  add(layer + "mlp.down_proj.weight", c.layers[0].mlp_width * c.hidden_size);
  return tensors;
}

TensorLookup In(const std::map<std::string, std::vector<float>>& tensors) {
  return [&tensors](const std::string& name, int64_t floats) -> const float* {
    const auto found = tensors.find(name);
    return found == tensors.end() || static_cast<int64_t>(found->second.size()) != floats
               ? nullptr
               : found->second.data();
  };
}

TEST(PackedWeights, NameTheTensorThatIsMissingOrOfAnotherSize) {
  const ModelConfig config = Tiny();
  PackedWeights weights(config, kernels::WeightType::kFloat32);
  const auto whole = Tensors(config);
  ASSERT_TRUE(weights.Fill(In(whole)).ok());
  for (const auto& [name, data] : whole) {
    auto missing = whole, cut = whole;
    missing.erase(name);
    cut[name].pop_back();
    for (const auto& tensors : {missing, cut}) {
      const absl::Status status = weights.Fill(In(tensors));
      EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << name;
      EXPECT_NE(std::string(status.message()).find(name), std::string::npos) << status;
    }
  }
}

TEST(PackedWeights, ArePackedAnewByEveryFill) {
  const ModelConfig config = Tiny();
  PackedWeights weights(config, kernels::WeightType::kFloat32);
  auto tensors = Tensors(config);
  ASSERT_TRUE(weights.Fill(In(tensors)).ok());
  const float before = reinterpret_cast<const float*>(weights.head().weights)[0];
  EXPECT_EQ(before, tensors["model.embed_tokens.weight"][0]);
  EXPECT_EQ(weights.layer(0).qkv.bias[config.q_size()],
            tensors["model.layers.0.self_attn.k_proj.bias"][0]);
  tensors["model.embed_tokens.weight"][0] = 5;
  ASSERT_TRUE(weights.Fill(In(tensors)).ok());
  EXPECT_EQ(reinterpret_cast<const float*>(weights.head().weights)[0], 5);
  EXPECT_EQ(weights.embedding()[0], 5);
}

TEST(FusedModel, GrowsForAStepLargerThanItWasMadeFor) {
  const ModelConfig config = Tiny();
  PackedWeights weights(config, kernels::WeightType::kFloat32);
  const auto tensors = Tensors(config);
  ASSERT_TRUE(weights.Fill(In(tensors)).ok());
  RopeAngles angles{std::vector<float>(64 * 2, 1), std::vector<float>(64 * 2, 0), 64};
  ThreadTeam team(1);
  FusedModel small(config, angles, 2, 1, team), large(config, angles, 64, 64, team);
  FusedStep step;
  step.paged.block_tokens = 4;
  step.paged.sequences.push_back({.first_row = 0, .num_rows = 9});
  step.paged.block_tables = {2, 0, 1};
  for (int32_t t = 0; t < 9; ++t) {
    step.tokens.push_back(t);
    step.positions.push_back(t);
    step.wanted_rows.push_back(t);
  }
  const PagedKv one(config, 3, 4), two(config, 3, 4);
  const LogitRows a = small.Forward(weights, step, one), b = large.Forward(weights, step, two);
  for (int64_t r = 0; r < 9; ++r) {
    for (int64_t v = 0; v < config.vocab_size; ++v) ASSERT_EQ(a[r][v], b[r][v]);
  }
}

}  // namespace
}  // namespace tramontane
