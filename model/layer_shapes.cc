#include "model/layer_shapes.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/status.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

constexpr int64_t kMostWidth = int64_t{1} << 24;

absl::Status ParseUniform(JsonFields& fields, const FamilyDefaults& defaults, const Json& json,
                          ModelConfig& c) {
  // null means "as many as heads"; an absent key means the family's default.
  const bool null_kv = json.contains("num_key_value_heads") || defaults.num_kv_heads == 0;
  LayerShape shape;
  shape.kv_heads =
      fields.Int("num_key_value_heads", null_kv ? c.num_heads : defaults.num_kv_heads, 1, 1 << 14);
  shape.mlp_width = fields.RequiredInt("intermediate_size", 1, kMostWidth);
  RETURN_IF_ERROR(fields.status());
  if (c.num_heads % shape.kv_heads != 0) {
    return BadConfig("num_key_value_heads", "must divide num_attention_heads");
  }
  c.layers.assign(c.num_layers, shape);
  return absl::OkStatus();
}

absl::Status ParseWindows(JsonFields& fields, const FamilyDefaults& defaults, const Json& json,
                          ModelConfig& c) {
  if (c.family == "llama") return absl::OkStatus();
  const bool everywhere = c.family == "mistral" || c.family == "mixtral" || c.family == "qwen3_moe";
  const bool switched = c.family != "mistral" && c.family != "mixtral";
  const bool absent = !json.contains("sliding_window");
  int64_t window =
      fields.Int("sliding_window", absent ? defaults.sliding_window : 0, 1, int64_t{1} << 32);
  if (switched && !fields.Bool("use_sliding_window", false)) window = 0;
  if (everywhere) {
    for (LayerShape& layer : c.layers) layer.window = window;
    return fields.status();
  }
  const int64_t first_windowed = fields.Int("max_window_layers", 28, 0, int64_t{1} << 32);
  RETURN_IF_ERROR(fields.status());
  if (!fields.Has("layer_types")) {
    for (int64_t l = first_windowed; l < c.num_layers; ++l) c.layers[l].window = window;
    return absl::OkStatus();
  }
  const Json& types = json["layer_types"];
  if (!types.is_array() || static_cast<int64_t>(types.size()) != c.num_layers) {
    return BadConfig("layer_types", "must list one kind for each layer");
  }
  for (int64_t l = 0; l < c.num_layers; ++l) {
    if (types[l] == "full_attention") continue;
    if (types[l] != "sliding_attention")
      return BadConfig("layer_types", "unknown kind " + types[l].dump());
    if (window == 0)
      return BadConfig("layer_types",
                       "sliding_attention needs sliding_window and use_sliding_window");
    c.layers[l].window = window;
  }
  return absl::OkStatus();
}

// Marks the layers that have one MLP for all tokens.
absl::Status MarkDense(const Json& json, std::vector<uint8_t>& dense) {
  if (!json.contains("mlp_only_layers") || json["mlp_only_layers"].is_null())
    return absl::OkStatus();
  const Json& list = json["mlp_only_layers"];
  const absl::Status bad = BadConfig("mlp_only_layers", "must be a list of layer numbers");
  if (!list.is_array()) return bad;
  for (const Json& l : list) {
    if (!l.is_number_integer() || l.get<int64_t>() < 0) return bad;
    if (l.get<int64_t>() < static_cast<int64_t>(dense.size())) dense[l.get<int64_t>()] = 1;
  }
  return absl::OkStatus();
}

// transformers 5 writes num_local_experts for both families; 4 wrote num_experts for Qwen3-MoE.
absl::Status ParseExperts(JsonFields& fields, const Json& json, ModelConfig& c) {
  const bool mixtral = c.family == "mixtral";
  const char* count = fields.Has("num_local_experts") ? "num_local_experts" : "num_experts";
  const int64_t experts = fields.Int(count, mixtral ? 8 : 128, 1, kMostExperts);
  c.experts_per_token = fields.Int("num_experts_per_tok", mixtral ? 2 : 8, 1, kMostExperts);
  c.normalise_experts = mixtral || fields.Bool("norm_topk_prob", false);
  const int64_t width =
      mixtral ? c.layers[0].mlp_width : fields.Int("moe_intermediate_size", 768, 1, kMostWidth);
  const int64_t every = mixtral ? 1 : fields.Int("decoder_sparse_step", 1, 1, int64_t{1} << 32);
  const double jitter = fields.Number("router_jitter_noise", 0);
  std::vector<uint8_t> dense(c.num_layers, 0);
  RETURN_IF_ERROR(fields.status());
  if (!mixtral) RETURN_IF_ERROR(MarkDense(json, dense));
  if (c.experts_per_token > experts)
    return BadConfig("num_experts_per_tok", "must be at most " + std::string(count));
  if (jitter != 0) return BadConfig("router_jitter_noise", "must be 0: routing draws nothing");
  for (int64_t l = 0; l < c.num_layers; ++l) {
    if (dense[l] || (l + 1) % every != 0) continue;
    c.layers[l].experts = experts;
    c.layers[l].mlp_width = width;
  }
  return absl::OkStatus();
}

absl::Status CheckList(const Json& json, const std::string& key, int64_t layers) {
  if (!json.contains(key) || !json[key].is_array() ||
      static_cast<int64_t>(json[key].size()) != layers) {
    return BadConfig(key,
                     "must list one object for each of the " + std::to_string(layers) + " layers");
  }
  for (size_t l = 0; l < json[key].size(); ++l) {
    if (!json[key][l].is_object())
      return BadConfig(key + "[" + std::to_string(l) + "]", "must be an object");
  }
  return absl::OkStatus();
}

absl::Status ParseOwnForm(const Json& json, ModelConfig& c) {
  RETURN_IF_ERROR(CheckList(json, "layers", c.num_layers));
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const std::string prefix = "layers[" + std::to_string(l) + "].";
    LayerShape& layer = c.layers[l];
    for (const auto& [key, value] : json["layers"][l].items()) {
      if (key != "num_key_value_heads" && key != "intermediate_size")
        return BadConfig(prefix + key,
                         "unknown; num_key_value_heads and intermediate_size can differ");
    }
    JsonFields own(json["layers"][l], prefix);
    layer.kv_heads = own.Int("num_key_value_heads", layer.kv_heads, 0, c.num_heads);
    layer.mlp_width = own.Int("intermediate_size", layer.mlp_width, 0, kMostWidth);
    RETURN_IF_ERROR(own.status());
    if (layer.kv_heads > 0 && c.num_heads % layer.kv_heads != 0)
      return BadConfig(prefix + "num_key_value_heads", "must divide num_attention_heads");
    if (layer.kv_heads == 0) layer.window = 0;
    if (layer.mlp_width == 0) layer.experts = 0;
  }
  return absl::OkStatus();
}

// What the search behind these models may also put in a part's place: linear maps, sinks, windows.
absl::Status RefuseVariants(JsonFields& part, std::initializer_list<const char*> keys,
                            const std::string& prefix) {
  if (part.Bool("replace_with_linear", false))
    return BadConfig(prefix + "replace_with_linear", "linear replacements are not supported");
  for (const char* key : keys) {
    if (part.Has(key)) return BadConfig(prefix + key, "is not supported");
  }
  return part.status();
}

absl::Status ParseBlockAttention(const Json& block, const std::string& prefix, int64_t heads,
                                 LayerShape& layer) {
  JsonFields attention(block, prefix);
  RETURN_IF_ERROR(
      RefuseVariants(attention, {"sparsify", "window_length", "num_sink_tokens"}, prefix));
  if (attention.Bool("no_op", false)) return attention.status();
  const int64_t group = attention.RequiredInt("n_heads_in_group", 1, heads);
  RETURN_IF_ERROR(attention.status());
  if (heads % group != 0)
    return BadConfig(prefix + "n_heads_in_group", "must divide num_attention_heads");
  layer.kv_heads = heads / group;
  return absl::OkStatus();
}

absl::Status ParseBlockMlp(const Json& block, const std::string& prefix, int64_t hidden,
                           LayerShape& layer) {
  JsonFields ffn(block, prefix);
  RETURN_IF_ERROR(RefuseVariants(ffn, {"sparsify"}, prefix));
  if (ffn.Bool("no_op", false)) return ffn.status();
  const double multiple = ffn.RequiredNumber("ffn_mult");
  RETURN_IF_ERROR(ffn.status());
  const double exact = 2 * multiple * static_cast<double>(hidden) / 3;
  if (!(exact >= 1 && exact <= kMostWidth))
    return BadConfig(prefix + "ffn_mult", "gives no MLP that could be computed");
  constexpr int64_t kWhole = 256;  // as DeciLM rounds widths up
  layer.mlp_width = (static_cast<int64_t>(exact) + kWhole - 1) / kWhole * kWhole;
  return absl::OkStatus();
}

absl::Status ParseBlockConfigs(const Json& json, ModelConfig& c) {
  RETURN_IF_ERROR(CheckList(json, "block_configs", c.num_layers));
  c.layers.assign(c.num_layers, {});
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const Json& block = json["block_configs"][l];
    const std::string prefix = "block_configs[" + std::to_string(l) + "].";
    if (block.contains("parallel_blocks") && !block["parallel_blocks"].is_null())
      return BadConfig(prefix + "parallel_blocks", "is not supported");
    for (const char* part : {"attention", "ffn"}) {
      if (!block.contains(part) || !block[part].is_object())
        return BadConfig(prefix + part, "must be an object");
    }
    RETURN_IF_ERROR(
        ParseBlockAttention(block["attention"], prefix + "attention.", c.num_heads, c.layers[l]));
    RETURN_IF_ERROR(ParseBlockMlp(block["ffn"], prefix + "ffn.", c.hidden_size, c.layers[l]));
  }
  return absl::OkStatus();
}

// The head's layer is a plain one of the family.
absl::Status AddMtpLayer(JsonFields& fields, const LayerShape& plain, ModelConfig& c) {
  const int64_t heads = fields.Int("num_nextn_predict_layers", 0, 0, int64_t{1} << 32);
  RETURN_IF_ERROR(fields.status());
  if (heads == 0) return absl::OkStatus();
  if (heads > 1) return BadConfig("num_nextn_predict_layers", "at most one is supported");
  if (c.experts_per_token > 0 || plain.kv_heads == 0)
    return BadConfig("num_nextn_predict_layers", "is not supported in the " + c.family + " family");
  c.mtp = true;
  c.layers.push_back(plain);
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseLayers(JsonFields& fields, const FamilyDefaults& defaults, const Json& json,
                         ModelConfig& c) {
  if (c.family == "nemotron-nas") {
    RETURN_IF_ERROR(ParseBlockConfigs(json, c));
    return AddMtpLayer(fields, {}, c);
  }
  if (fields.Has("block_configs"))
    return BadConfig("block_configs", "only nemotron-nas has them; see layers");
  RETURN_IF_ERROR(ParseUniform(fields, defaults, json, c));
  RETURN_IF_ERROR(ParseWindows(fields, defaults, json, c));
  if (c.family == "qwen3_moe" || c.family == "mixtral")
    RETURN_IF_ERROR(ParseExperts(fields, json, c));
  LayerShape plain = c.layers.back();
  plain.window = 0;
  if (fields.Has("layers")) RETURN_IF_ERROR(ParseOwnForm(json, c));
  return AddMtpLayer(fields, plain, c);
}

}  // namespace tramontane
