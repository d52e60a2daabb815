#include "model/model_config.h"

#include <algorithm>
#include <map>

#include "common/files.h"
#include "common/status.h"
#include "model/json_fields.h"
#include "model/layer_shapes.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

const std::map<std::string, FamilyDefaults>& Families() {
  static const std::map<std::string, FamilyDefaults> families = {
      {"llama", {2048, 0, 0, 0}},         {"mistral", {4096 * 32, 8, 0, 4096}},
      {"qwen2", {32768, 32, 0, 4096}},    {"qwen3", {32768, 32, 128, 4096}},
      {"mimo", {32768, 32, 0, 4096}},     {"nemotron-nas", {2048, 0, 0, 0}},
      {"qwen3_moe", {32768, 4, 0, 4096}}, {"mixtral", {4096 * 32, 8, 0, 0, 1e-5, 1e6}},
  };
  return families;
}

absl::Status ParseSizes(JsonFields& fields, const FamilyDefaults& defaults, const Json& json,
                        ModelConfig& c) {
  constexpr int64_t kMost = int64_t{1} << 24;
  c.vocab_size = fields.RequiredInt("vocab_size", 1, kMost);
  c.hidden_size = fields.RequiredInt("hidden_size", 1, kMost);
  c.num_layers = fields.RequiredInt("num_hidden_layers", 1, 1 << 14);
  c.num_heads = fields.RequiredInt("num_attention_heads", 1, 1 << 14);
  const bool null_dim = json.contains("head_dim") || defaults.head_dim == 0;
  c.head_dim = fields.Int("head_dim", null_dim ? c.hidden_size / c.num_heads : defaults.head_dim, 1,
                          1 << 14);
  c.max_position_embeddings =
      fields.Int("max_position_embeddings", defaults.max_position_embeddings, 1, int64_t{1} << 32);
  RETURN_IF_ERROR(fields.status());
  if (c.head_dim < 2 || c.head_dim % 2 != 0) return BadConfig("head_dim", "must be even");
  return absl::OkStatus();
}

absl::Status ParseSwitches(JsonFields& fields, const FamilyDefaults& defaults, ModelConfig& c) {
  c.rms_norm_eps = fields.Number("rms_norm_eps", defaults.rms_norm_eps);
  c.initializer_range = fields.Number("initializer_range", 0.02);
  c.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
  c.qk_norm = c.family == "qwen3" || c.family == "qwen3_moe";
  const bool attention_bias = fields.Bool("attention_bias", false);
  const bool like_llama = c.family == "llama" || c.family == "nemotron-nas";
  const bool has_switch = like_llama || c.qk_norm;
  const bool like_qwen2 = c.family == "qwen2" || c.family == "mimo";
  c.attention_qkv_bias = like_qwen2 || (has_switch && attention_bias);
  c.attention_out_bias = has_switch && attention_bias;
  c.mlp_bias = like_llama && fields.Bool("mlp_bias", false);
  c.dtype = fields.String("dtype", fields.String("torch_dtype", "float32"));
  const std::string act = fields.String("hidden_act", "silu");
  RETURN_IF_ERROR(fields.status());
  if (act != "silu") return BadConfig("hidden_act", "only silu is supported, not " + act);
  if (c.rms_norm_eps <= 0) return BadConfig("rms_norm_eps", "must be positive");
  if (c.initializer_range <= 0) return BadConfig("initializer_range", "must be positive");
  if (fields.Has("quantization_config")) {
    return BadConfig("quantization_config", "quantised checkpoints are not supported");
  }
  return absl::OkStatus();
}

absl::Status ParseScaling(JsonFields& fields, JsonFields& top, const FamilyDefaults& defaults,
                          ModelConfig& c) {
  RopeScaling& s = c.rope_scaling;
  s.kind = fields.String("rope_type", fields.String("type", "default"));
  static constexpr const char* kKinds[] = {"default", "linear", "dynamic", "llama3", "yarn"};
  if (std::none_of(std::begin(kKinds), std::end(kKinds),
                   [&](const char* k) { return s.kind == k; })) {
    return BadConfig("rope_parameters.rope_type", "unsupported kind '" + s.kind + "'");
  }
  if (fields.Number("partial_rotary_factor", top.Number("partial_rotary_factor", 1)) != 1) {
    return BadConfig("partial_rotary_factor", "only whole heads can be rotated");
  }
  c.rope_theta = fields.Number("rope_theta", top.Number("rope_theta", defaults.rope_theta));
  const int64_t inner = fields.Int("original_max_position_embeddings", c.max_position_embeddings, 1,
                                   int64_t{1} << 32);
  s.original_max_position_embeddings =
      top.Int("original_max_position_embeddings", inner, 1, int64_t{1} << 32);
  if (s.kind == "yarn" && !fields.Has("factor")) {
    s.factor = static_cast<double>(c.max_position_embeddings) /
               static_cast<double>(s.original_max_position_embeddings);
  } else if (s.kind != "default") {
    s.factor = fields.RequiredNumber("factor");
  }
  if (s.kind == "llama3") {
    s.low_freq_factor = fields.RequiredNumber("low_freq_factor");
    s.high_freq_factor = fields.RequiredNumber("high_freq_factor");
    if (s.low_freq_factor <= 0 || s.high_freq_factor <= s.low_freq_factor) {
      fields.Fail("high_freq_factor", "must be above low_freq_factor, and both above 0");
    }
  }
  if (s.kind == "yarn") {
    const auto or_default = [&](const char* key, double fallback) {
      const double x = fields.Number(key, fallback);
      return x == 0 ? fallback : x;
    };
    s.beta_fast = or_default("beta_fast", 32);
    s.beta_slow = or_default("beta_slow", 1);
    s.attention_factor = fields.MaybeNumber("attention_factor");
    s.mscale = fields.MaybeNumber("mscale");
    s.mscale_all_dim = fields.MaybeNumber("mscale_all_dim");
    s.truncate = fields.Bool("truncate", true);
  }
  RETURN_IF_ERROR(fields.status());
  RETURN_IF_ERROR(top.status());
  if (c.rope_theta <= 0) return BadConfig("rope_theta", "must be positive");
  if (s.factor <= 0) return BadConfig("rope_parameters.factor", "must be positive");
  return absl::OkStatus();
}

// transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling; where both stand, the
// older key wins, as it does there.
absl::Status ParseRope(JsonFields& top, const FamilyDefaults& defaults, const Json& json,
                       ModelConfig& c) {
  const bool old_form = top.Has("rope_scaling") && !json["rope_scaling"].empty();
  const char* key = old_form ? "rope_scaling" : "rope_parameters";
  const Json parameters = top.Has(key) ? json[key] : Json::object();
  if (!parameters.is_object()) return BadConfig(key, "must be an object");
  for (const char* kind : {"full_attention", "sliding_attention"}) {
    if (parameters.contains(kind))
      return BadConfig(key, "a rope of its own for each kind of layer is not supported");
  }
  JsonFields fields(parameters, std::string(key) + ".");
  return ParseScaling(fields, top, defaults, c);
}

absl::Status AddEosIds(const Json& json, const std::string& file, std::vector<int32_t>& ids) {
  if (!json.contains("eos_token_id") || json["eos_token_id"].is_null()) return absl::OkStatus();
  const Json& value = json["eos_token_id"];
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      return absl::InvalidArgumentError(file + ": eos_token_id: must be token ids");
    }
    const int32_t n = id.get<int32_t>();
    if (std::find(ids.begin(), ids.end(), n) == ids.end()) ids.push_back(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, size_t{16} << 20));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(path + ": not a JSON object");
  return json;
}

}  // namespace

int64_t ModelConfig::most_kv_heads() const {
  int64_t most = 0;
  for (const LayerShape& layer : layers) most = std::max(most, layer.kv_heads);
  return most;
}

int64_t ModelConfig::most_mlp_width() const {
  int64_t most = 0;
  for (const LayerShape& layer : layers) most = std::max(most, layer.mlp_width);
  return most;
}

int64_t ModelConfig::attention_layers() const {
  return std::count_if(layers.begin(), layers.begin() + num_layers,
                       [](const LayerShape& layer) { return layer.kv_heads > 0; });
}

int64_t ModelConfig::expert_layers() const {
  return std::count_if(layers.begin(), layers.begin() + num_layers,
                       [](const LayerShape& layer) { return layer.experts > 0; });
}

int64_t ModelConfig::matrix_weights() const {
  int64_t outputs = 0;
  for (int64_t l = 0; l < num_layers; ++l) {
    const LayerShape& layer = layers[l];
    if (layer.kv_heads > 0) outputs += 2 * (q_size() + layer.kv_heads * head_dim);
    outputs += 3 * layer.mlp_width * (layer.experts > 0 ? experts_per_token : 1) + layer.experts;
  }
  return outputs * hidden_size;
}

std::string PrefixOfLayer(const ModelConfig& config, int64_t layer) {
  return layer < config.num_layers ? "model.layers." + std::to_string(layer) + "."
                                   : "model.mtp_layers.0.";
}

MlpNames NamesOfMlp(const ModelConfig& config, int64_t layer, int64_t expert) {
  if (config.layers[layer].experts == 0) return {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
  const std::string number = std::to_string(expert);
  if (config.family == "mixtral") {
    const std::string prefix = "block_sparse_moe.experts." + number + ".";
    return {prefix + "w1", prefix + "w3", prefix + "w2"};
  }
  const std::string prefix = "mlp.experts." + number + ".";
  return {prefix + "gate_proj", prefix + "up_proj", prefix + "down_proj"};
}

std::string NameOfRouter(const ModelConfig& config) {
  return config.family == "mixtral" ? "block_sparse_moe.gate" : "mlp.gate";
}

absl::StatusOr<ModelConfig> ParseModelConfig(const Json& config) {
  if (!config.is_object()) return absl::InvalidArgumentError("config.json: not a JSON object");
  ModelConfig c;
  c.source = config;
  JsonFields fields(config, "");
  c.family = fields.String("model_type", "");
  RETURN_IF_ERROR(fields.status());
  if (c.family.empty()) return BadConfig("model_type", "missing");
  const auto family = Families().find(c.family);
  if (family == Families().end()) {
    return BadConfig("model_type", "unsupported family '" + c.family +
                                       "' (llama, mistral, qwen2, qwen3, mimo, " +
                                       "nemotron-nas, qwen3_moe, mixtral)");
  }
  RETURN_IF_ERROR(ParseSizes(fields, family->second, config, c));
  RETURN_IF_ERROR(ParseSwitches(fields, family->second, c));
  RETURN_IF_ERROR(ParseLayers(fields, family->second, config, c));
  RETURN_IF_ERROR(ParseRope(fields, family->second, config, c));
  RETURN_IF_ERROR(AddEosIds(config, "config.json", c.eos_token_ids));
  return c;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& model_dir) {
  ASSIGN_OR_RETURN(const Json json, ReadJson(model_dir + "/config.json"));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(json);
  if (!config.ok()) return Annotate(config.status(), model_dir);
  const std::string generation_path = model_dir + "/generation_config.json";
  const absl::StatusOr<Json> generation = ReadJson(generation_path);
  if (generation.ok()) {
    RETURN_IF_ERROR(AddEosIds(*generation, generation_path, config->eos_token_ids));
  } else if (!absl::IsNotFound(generation.status())) {
    return generation.status();
  }
  return config;
}

}  // namespace tramontane
