#include "model/model_config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace tramontane {
namespace {

using Json = nlohmann::json;

Json Base(const std::string& family = "qwen3") {
  return {{"model_type", family},     {"vocab_size", 100},
          {"hidden_size", 64},        {"intermediate_size", 96},
          {"num_hidden_layers", 4},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 256}};
}

std::vector<int64_t> Windows(const ModelConfig& config) {
  std::vector<int64_t> windows;
  for (const LayerShape& layer : config.layers) windows.push_back(layer.window);
  return windows;
}

TEST(ModelConfig, ReadsBothFormsOfRope) {
  Json old_form = Base("llama"), new_form = Base("llama");
  old_form["rope_theta"] = 5e5;
  old_form["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  new_form["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 5e5}};
  for (const Json& json : {old_form, new_form}) {
    const auto config = ParseModelConfig(json);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope_theta, 5e5);
    EXPECT_EQ(config->rope_scaling.kind, "linear");
    EXPECT_EQ(config->rope_scaling.factor, 4.0);
  }
}

TEST(ModelConfig, KnowsTheFamiliesDifferences) {
  const auto qwen2 = *ParseModelConfig(Base("qwen2"));
  EXPECT_TRUE(qwen2.attention_qkv_bias);
  EXPECT_FALSE(qwen2.attention_out_bias);
  EXPECT_FALSE(qwen2.qk_norm);
  EXPECT_EQ(qwen2.head_dim, 16);
  const auto qwen3 = *ParseModelConfig(Base("qwen3"));
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_EQ(qwen3.head_dim, 128);  // the class default where config.json says nothing
  const auto mistral = *ParseModelConfig(Base("mistral"));
  EXPECT_EQ(Windows(mistral), std::vector<int64_t>(4, 4096));
  Json llama = Base("llama");
  llama["attention_bias"] = true;
  llama["mlp_bias"] = true;
  EXPECT_TRUE(ParseModelConfig(llama)->attention_out_bias);
  EXPECT_TRUE(ParseModelConfig(llama)->mlp_bias);
  llama["num_key_value_heads"] = nullptr;
  EXPECT_EQ(ParseModelConfig(llama)->layers[0].kv_heads, 4);
}

TEST(ModelConfig, GivesEachLayerItsWindow) {
  Json json = Base("qwen2");
  json["sliding_window"] = 32;
  json["max_window_layers"] = 3;
  EXPECT_EQ(Windows(*ParseModelConfig(json)), std::vector<int64_t>(4, 0));
  json["use_sliding_window"] = true;
  EXPECT_EQ(Windows(*ParseModelConfig(json)), (std::vector<int64_t>{0, 0, 0, 32}));
  json["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                         "sliding_attention"};
  EXPECT_EQ(Windows(*ParseModelConfig(json)), (std::vector<int64_t>{32, 0, 0, 32}));
  Json mistral = Base("mistral");
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(Windows(*ParseModelConfig(mistral)), std::vector<int64_t>(4, 0));
}

// As Llama-Nemotron's config.json describes a layer.
Json Block(Json attention, Json ffn) {
  for (Json* part : {&attention, &ffn}) {
    for (const char* key : {"no_op", "replace_with_linear"}) {
      if (!part->contains(key)) (*part)[key] = false;
    }
    (*part)["sparsify"] = nullptr;
  }
  attention["window_length"] = attention["num_sink_tokens"] = nullptr;
  return {{"attention", attention}, {"ffn", ffn}};
}

Json Nemotron() {
  Json json = Base("nemotron-nas");
  json["num_key_value_heads"] = json["intermediate_size"] = nullptr;
  json["block_configs"] = {
      Block({{"n_heads_in_group", 2}}, {{"ffn_mult", 5.25}}),
      Block({{"no_op", true}, {"n_heads_in_group", nullptr}}, {{"ffn_mult", 12.1}}),
      Block({{"n_heads_in_group", 4}}, {{"no_op", true}, {"ffn_mult", nullptr}}),
      Block({{"n_heads_in_group", 1}}, {{"ffn_mult", 6.0}})};
  return json;
}

TEST(ModelConfig, ReadsLlamaNemotronsLayers) {
  const auto config = ParseModelConfig(Nemotron());
  ASSERT_TRUE(config.ok()) << config.status();
  // 2/3 of the multiple of 64, cut to a whole number, then rounded up to a multiple of 256.
  const std::vector<LayerShape> expected = {{.kv_heads = 2, .mlp_width = 256},
                                            {.kv_heads = 0, .mlp_width = 768},
                                            {.kv_heads = 1, .mlp_width = 0},
                                            {.kv_heads = 4, .mlp_width = 256}};
  EXPECT_EQ(config->layers, expected);
  EXPECT_EQ(config->attention_layers(), 3);
  EXPECT_EQ(config->most_kv_heads(), 4);
  EXPECT_EQ(config->most_mlp_width(), 768);
  EXPECT_EQ(config->matrix_weights(),
            64 * (3 * 2 * 64 + 2 * (2 + 1 + 4) * 16 + 3 * (256 + 768 + 256)));
}

TEST(ModelConfig, ReadsOurOwnFormOfDifferingLayers) {
  Json json = Base("mistral");
  json["sliding_window"] = 9;
  json["layers"] = Json::parse(
      R"([{}, {"num_key_value_heads": 0}, {"intermediate_size": 0},
          {"num_key_value_heads": 1, "intermediate_size": 40}])");
  const auto config = ParseModelConfig(json);
  ASSERT_TRUE(config.ok()) << config.status();
  const std::vector<LayerShape> expected = {{.kv_heads = 2, .mlp_width = 96, .window = 9},
                                            {.kv_heads = 0, .mlp_width = 96, .window = 0},
                                            {.kv_heads = 2, .mlp_width = 0, .window = 9},
                                            {.kv_heads = 1, .mlp_width = 40, .window = 9}};
  EXPECT_EQ(config->layers, expected);
}

Json Mixture() {
  Json json = Base("qwen3_moe");
  json.update({{"num_experts", 6},
               {"num_experts_per_tok", 2},
               {"moe_intermediate_size", 24},
               {"decoder_sparse_step", 2},
               {"mlp_only_layers", {3}}});
  return json;
}

TEST(ModelConfig, ReadsMixturesOfExperts) {
  const auto qwen3 = ParseModelConfig(Mixture());
  ASSERT_TRUE(qwen3.ok()) << qwen3.status();
  const std::vector<LayerShape> expected = {{.kv_heads = 2, .mlp_width = 96},
                                            {.kv_heads = 2, .mlp_width = 24, .experts = 6},
                                            {.kv_heads = 2, .mlp_width = 96},
                                            {.kv_heads = 2, .mlp_width = 96}};
  EXPECT_EQ(qwen3->layers, expected);
  EXPECT_EQ(qwen3->route_size(), 2);
  EXPECT_FALSE(qwen3->normalise_experts);
  EXPECT_TRUE(qwen3->qk_norm);
  EXPECT_EQ(NamesOfMlp(*qwen3, 1, 4).down, "mlp.experts.4.down_proj");
  EXPECT_EQ(NamesOfMlp(*qwen3, 0, 0).gate, "mlp.gate_proj");
  // head_dim is 16: q and o are 64 wide, k and v 32.
  EXPECT_EQ(qwen3->matrix_weights(), 64 * (4 * 2 * (64 + 32) + 3 * (3 * 96 + 2 * 24) + 6));
  Json json = Base("mixtral");
  json["num_local_experts"] = 5;
  const auto mixtral = ParseModelConfig(json);
  ASSERT_TRUE(mixtral.ok()) << mixtral.status();
  EXPECT_EQ(mixtral->layers[3], (LayerShape{.kv_heads = 2, .mlp_width = 96, .experts = 5}));
  EXPECT_EQ(mixtral->experts_per_token, 2);
  EXPECT_TRUE(mixtral->normalise_experts);
  EXPECT_EQ(mixtral->rms_norm_eps, 1e-5);
  EXPECT_EQ(mixtral->rope_theta, 1e6);
  EXPECT_EQ(mixtral->route_size(), 8);
  EXPECT_EQ(NamesOfMlp(*mixtral, 0, 3).up, "block_sparse_moe.experts.3.w3");
  EXPECT_EQ(NameOfRouter(*mixtral), "block_sparse_moe.gate");
  json["layers"] = Json::parse(R"([{}, {"intermediate_size": 0}, {"num_key_value_heads": 0}, {}])");
  const auto fewer = ParseModelConfig(json);
  ASSERT_TRUE(fewer.ok()) << fewer.status();
  EXPECT_EQ(fewer->expert_layers(), 3);
}

TEST(ModelConfig, KnowsMultiTokenPredictionHeads) {
  Json json = Base("mimo");
  EXPECT_FALSE(ParseModelConfig(json)->mtp);
  json["num_nextn_predict_layers"] = 1;
  const auto config = ParseModelConfig(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->mtp);
  EXPECT_TRUE(config->attention_qkv_bias);
  ASSERT_EQ(config->layers.size(), 5u);
  EXPECT_EQ(config->layers[4], (LayerShape{.kv_heads = 2, .mlp_width = 96}));
  EXPECT_EQ(config->attention_layers(), 4);
  EXPECT_EQ(config->matrix_weights(), 64 * 4 * (2 * (64 + 32) + 3 * 96));
  EXPECT_EQ(PrefixOfLayer(*config, 3), "model.layers.3.");
  EXPECT_EQ(PrefixOfLayer(*config, 4), "model.mtp_layers.0.");
  // The head is a plain layer, whatever the others are.
  json["layers"] = Json::parse(R"([{}, {}, {}, {"num_key_value_heads": 0}])");
  EXPECT_EQ(ParseModelConfig(json)->layers[4], config->layers[4]);
}

TEST(ModelConfig, NamesTheLayerThatIsWrong) {
  const struct {
    std::string word;
    std::function<void(Json&)> spoil;
  } cases[] = {
      {"block_configs", [](Json& j) { j.erase("block_configs"); }},
      {"block_configs", [](Json& j) { j["block_configs"].erase(0); }},
      {"block_configs[1]", [](Json& j) { j["block_configs"][1] = 7; }},
      {"block_configs[2].ffn", [](Json& j) { j["block_configs"][2].erase("ffn"); }},
      {"block_configs[0].parallel_blocks",
       [](Json& j) { j["block_configs"][0]["parallel_blocks"] = Json::array(); }},
      {"block_configs[3].attention.replace_with_linear",
       [](Json& j) { j["block_configs"][3]["attention"]["replace_with_linear"] = true; }},
      {"block_configs[3].attention.window_length",
       [](Json& j) { j["block_configs"][3]["attention"]["window_length"] = 64; }},
      {"block_configs[3].attention.n_heads_in_group",
       [](Json& j) { j["block_configs"][3]["attention"]["n_heads_in_group"] = 3; }},
      {"block_configs[3].attention.n_heads_in_group",
       [](Json& j) { j["block_configs"][3]["attention"]["n_heads_in_group"] = nullptr; }},
      {"block_configs[3].attention.no_op",
       [](Json& j) { j["block_configs"][3]["attention"]["no_op"] = "yes"; }},
      {"block_configs[0].ffn.ffn_mult",
       [](Json& j) { j["block_configs"][0]["ffn"]["ffn_mult"] = -1; }},
      {"block_configs[0].ffn.ffn_mult",
       [](Json& j) { j["block_configs"][0]["ffn"]["ffn_mult"] = 1e12; }},
      {"block_configs", [](Json& j) { j["model_type"] = "llama"; }},
      {"num_nextn_predict_layers",
       [](Json& j) {
         j = Base("mimo");
         j["num_nextn_predict_layers"] = 2;
       }},
      {"num_nextn_predict_layers", [](Json& j) { j["num_nextn_predict_layers"] = 1; }},
      {"num_nextn_predict_layers",
       [](Json& j) {
         j = Base("mixtral");
         j["num_nextn_predict_layers"] = 1;
       }},
      {"num_experts",
       [](Json& j) {
         j = Mixture();
         j["num_experts"] = 256;
       }},
      {"num_experts_per_tok",
       [](Json& j) {
         j = Mixture();
         j["num_experts_per_tok"] = 7;
       }},
      {"mlp_only_layers",
       [](Json& j) {
         j = Mixture();
         j["mlp_only_layers"] = {"first"};
       }},
      {"router_jitter_noise",
       [](Json& j) {
         j = Base("mixtral");
         j["router_jitter_noise"] = 0.01;
       }},
      {"layers",
       [](Json& j) {
         j = Base();
         j["layers"] = {Json::object()};
       }},
      {"layers[2].heads",
       [](Json& j) {
         j = Base();
         j["layers"] = Json::parse(R"([{}, {}, {"heads": 1}, {}])");
       }},
      {"layers[3].num_key_value_heads",
       [](Json& j) {
         j = Base();
         j["layers"] = Json::parse(R"([{}, {}, {}, {"num_key_value_heads": 3}])");
       }},
      {"layers[0].intermediate_size",
       [](Json& j) {
         j = Base();
         j["layers"] = Json::parse(R"([{"intermediate_size": -1}, {}, {}, {}])");
       }},
  };
  for (const auto& c : cases) {
    Json json = Nemotron();
    c.spoil(json);
    const auto config = ParseModelConfig(json);
    ASSERT_FALSE(config.ok()) << c.word;
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(config.status().message()).find(c.word), std::string::npos)
        << config.status();
  }
}

TEST(ModelConfig, CollectsEndTokens) {
  Json json = Base();
  json["eos_token_id"] = {5, 7, 5};
  EXPECT_EQ(ParseModelConfig(json)->eos_token_ids, (std::vector<int32_t>{5, 7}));
  json["eos_token_id"] = nullptr;
  EXPECT_TRUE(ParseModelConfig(json)->eos_token_ids.empty());
}

TEST(ModelConfig, NamesWhatIsWrong) {
  const struct {
    std::string word;
    std::function<void(Json&)> spoil;
  } cases[] = {
      {"model_type", [](Json& j) { j.erase("model_type"); }},
      {"gpt2", [](Json& j) { j["model_type"] = "gpt2"; }},
      {"hidden_size", [](Json& j) { j.erase("hidden_size"); }},
      {"hidden_size", [](Json& j) { j["hidden_size"] = -3; }},
      {"vocab_size", [](Json& j) { j["vocab_size"] = 1e18; }},
      {"vocab_size", [](Json& j) { j["vocab_size"] = 18446744073709551615u; }},
      {"num_key_value_heads", [](Json& j) { j["num_key_value_heads"] = 3; }},
      {"head_dim", [](Json& j) { j["head_dim"] = 15; }},
      {"hidden_act", [](Json& j) { j["hidden_act"] = "gelu"; }},
      {"rms_norm_eps", [](Json& j) { j["rms_norm_eps"] = "small"; }},
      {"tie_word_embeddings", [](Json& j) { j["tie_word_embeddings"] = 1; }},
      {"rope_type",
       [](Json& j) {
         j["rope_scaling"] = {{"rope_type", "longrope"}};
       }},
      {"factor",
       [](Json& j) {
         j["rope_scaling"] = {{"rope_type", "linear"}};
       }},
      {"high_freq_factor",
       [](Json& j) {
         j["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 2}, {"low_freq_factor", 1}};
       }},
      {"rope_parameters",
       [](Json& j) {
         j["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}}}};
       }},
      {"layer_types", [](Json& j) { j["layer_types"] = {"full_attention"}; }},
      {"layer_types",
       [](Json& j) {
         j["layer_types"] = Json::array({"a", "b", "c", "d"});
       }},
      {"quantization_config", [](Json& j) { j["quantization_config"] = Json::object(); }},
      {"eos_token_id", [](Json& j) { j["eos_token_id"] = "end"; }},
      {"partial_rotary_factor", [](Json& j) { j["partial_rotary_factor"] = 0.5; }},
  };
  for (const auto& c : cases) {
    Json json = Base();
    c.spoil(json);
    const auto config = ParseModelConfig(json);
    ASSERT_FALSE(config.ok()) << c.word;
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(config.status().message()).find(c.word), std::string::npos)
        << config.status();
  }
}

}  // namespace
}  // namespace tramontane
