#include "model/model_config.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

absl::Status Bad(const std::string& field, const std::string& what) {
  return absl::InvalidArgumentError("config.json: " + field + ": " + what);
}

// Keys that are absent or null fall back; of a wrong type, they are remembered as the error.
class Fields {
 public:
  Fields(const Json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

  bool Has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

  int64_t Int(const char* key, int64_t fallback, int64_t least, int64_t most) {
    if (!Has(key)) return fallback;
    const Json& value = object_[key];
    if (!value.is_number_integer()) return Fail(key, "must be an integer"), fallback;
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(most)) {
      return Fail(key, "is too large"), fallback;
    }
    const int64_t n = value.get<int64_t>();
    if (n < least || n > most) {
      Fail(key, "must be between " + std::to_string(least) + " and " + std::to_string(most));
      return fallback;
    }
    return n;
  }
  int64_t RequiredInt(const char* key, int64_t least, int64_t most) {
    if (!Has(key)) Fail(key, "missing");
    return Int(key, least, least, most);
  }
  double Number(const char* key, double fallback) {
    if (!Has(key)) return fallback;
    if (!object_[key].is_number()) return Fail(key, "must be a number"), fallback;
    const double x = object_[key].get<double>();
    if (!std::isfinite(x)) return Fail(key, "must be finite"), fallback;
    return x;
  }
  double RequiredNumber(const char* key) {
    if (!Has(key)) Fail(key, "missing");
    return Number(key, 1);
  }
  std::optional<double> MaybeNumber(const char* key) {
    return Has(key) ? std::optional<double>(Number(key, 0)) : std::nullopt;
  }
  bool Bool(const char* key, bool fallback) {
    if (!Has(key)) return fallback;
    if (!object_[key].is_boolean()) return Fail(key, "must be true or false"), fallback;
    return object_[key].get<bool>();
  }
  std::string String(const char* key, const std::string& fallback) {
    if (!Has(key)) return fallback;
    if (!object_[key].is_string()) return Fail(key, "must be a string"), fallback;
    return object_[key].get<std::string>();
  }

  void Fail(const std::string& key, const std::string& what) {
    if (status_.ok()) status_ = Bad(prefix_ + key, what);
  }
  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  std::string prefix_;
  absl::Status status_;
};

// What transformers' configuration classes assume where a file says nothing.
struct FamilyDefaults {
  int64_t max_position_embeddings;
  int64_t num_kv_heads;  // 0: as many as query heads
  int64_t head_dim;      // 0: hidden / heads
  int64_t sliding_window;
};
const std::map<std::string, FamilyDefaults>& Families() {
  static const std::map<std::string, FamilyDefaults> families = {
      {"llama", {2048, 0, 0, 0}},
      {"mistral", {4096 * 32, 8, 0, 4096}},
      {"qwen2", {32768, 32, 0, 4096}},
      {"qwen3", {32768, 32, 128, 4096}},
  };
  return families;
}

absl::Status ParseSizes(Fields& fields, const FamilyDefaults& defaults, const Json& json,
                        ModelConfig& c) {
  constexpr int64_t kMost = int64_t{1} << 24;
  c.vocab_size = fields.RequiredInt("vocab_size", 1, kMost);
  c.hidden_size = fields.RequiredInt("hidden_size", 1, kMost);
  c.intermediate_size = fields.RequiredInt("intermediate_size", 1, kMost);
  c.num_layers = fields.RequiredInt("num_hidden_layers", 1, 1 << 14);
  c.num_heads = fields.RequiredInt("num_attention_heads", 1, 1 << 14);
  // null means "as many as heads"; an absent key means the family's default.
  const bool null_kv = json.contains("num_key_value_heads") || defaults.num_kv_heads == 0;
  c.num_kv_heads =
      fields.Int("num_key_value_heads", null_kv ? c.num_heads : defaults.num_kv_heads, 1, 1 << 14);
  const bool null_dim = json.contains("head_dim") || defaults.head_dim == 0;
  c.head_dim = fields.Int("head_dim", null_dim ? c.hidden_size / c.num_heads : defaults.head_dim, 1,
                          1 << 14);
  c.max_position_embeddings =
      fields.Int("max_position_embeddings", defaults.max_position_embeddings, 1, int64_t{1} << 32);
  RETURN_IF_ERROR(fields.status());
  if (c.num_heads % c.num_kv_heads != 0) {
    return Bad("num_key_value_heads", "must divide num_attention_heads");
  }
  if (c.head_dim < 2 || c.head_dim % 2 != 0) return Bad("head_dim", "must be even");
  return absl::OkStatus();
}

absl::Status ParseSwitches(Fields& fields, ModelConfig& c) {
  c.rms_norm_eps = fields.Number("rms_norm_eps", 1e-6);
  c.initializer_range = fields.Number("initializer_range", 0.02);
  c.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
  c.qk_norm = c.family == "qwen3";
  const bool attention_bias = fields.Bool("attention_bias", false);
  const bool has_switch = c.family == "llama" || c.family == "qwen3";
  c.attention_qkv_bias = c.family == "qwen2" || (has_switch && attention_bias);
  c.attention_out_bias = has_switch && attention_bias;
  c.mlp_bias = c.family == "llama" && fields.Bool("mlp_bias", false);
  c.dtype = fields.String("dtype", fields.String("torch_dtype", "float32"));
  const std::string act = fields.String("hidden_act", "silu");
  RETURN_IF_ERROR(fields.status());
  if (act != "silu") return Bad("hidden_act", "only silu is supported, not " + act);
  if (c.rms_norm_eps <= 0) return Bad("rms_norm_eps", "must be positive");
  if (c.initializer_range <= 0) return Bad("initializer_range", "must be positive");
  if (fields.Has("quantization_config")) {
    return Bad("quantization_config", "quantised checkpoints are not supported");
  }
  return absl::OkStatus();
}

absl::Status ParseWindows(Fields& fields, const FamilyDefaults& defaults, const Json& json,
                          ModelConfig& c) {
  c.sliding_window.assign(c.num_layers, 0);
  if (c.family == "llama") return absl::OkStatus();
  const bool absent = !json.contains("sliding_window");
  int64_t window =
      fields.Int("sliding_window", absent ? defaults.sliding_window : 0, 1, int64_t{1} << 32);
  if (c.family == "mistral") {
    RETURN_IF_ERROR(fields.status());
    c.sliding_window.assign(c.num_layers, window);
    return absl::OkStatus();
  }
  if (!fields.Bool("use_sliding_window", false)) window = 0;
  const int64_t first_windowed = fields.Int("max_window_layers", 28, 0, int64_t{1} << 32);
  RETURN_IF_ERROR(fields.status());
  if (!fields.Has("layer_types")) {
    for (int64_t l = first_windowed; l < c.num_layers; ++l) c.sliding_window[l] = window;
    return absl::OkStatus();
  }
  const Json& types = json["layer_types"];
  if (!types.is_array() || static_cast<int64_t>(types.size()) != c.num_layers) {
    return Bad("layer_types", "must list one kind for each layer");
  }
  for (int64_t l = 0; l < c.num_layers; ++l) {
    if (types[l] == "full_attention") continue;
    if (types[l] != "sliding_attention")
      return Bad("layer_types", "unknown kind " + types[l].dump());
    if (window == 0)
      return Bad("layer_types", "sliding_attention needs sliding_window and use_sliding_window");
    c.sliding_window[l] = window;
  }
  return absl::OkStatus();
}

absl::Status ParseScaling(Fields& fields, Fields& top, ModelConfig& c) {
  RopeScaling& s = c.rope_scaling;
  s.kind = fields.String("rope_type", fields.String("type", "default"));
  static constexpr const char* kKinds[] = {"default", "linear", "dynamic", "llama3", "yarn"};
  if (std::none_of(std::begin(kKinds), std::end(kKinds),
                   [&](const char* k) { return s.kind == k; })) {
    return Bad("rope_parameters.rope_type", "unsupported kind '" + s.kind + "'");
  }
  if (fields.Number("partial_rotary_factor", top.Number("partial_rotary_factor", 1)) != 1) {
    return Bad("partial_rotary_factor", "only whole heads can be rotated");
  }
  c.rope_theta = fields.Number("rope_theta", top.Number("rope_theta", 10000.0));
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
  if (c.rope_theta <= 0) return Bad("rope_theta", "must be positive");
  if (s.factor <= 0) return Bad("rope_parameters.factor", "must be positive");
  return absl::OkStatus();
}

// transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling; where both stand, the
// older key wins, as it does there.
absl::Status ParseRope(Fields& top, const Json& json, ModelConfig& c) {
  const bool old_form = top.Has("rope_scaling") && !json["rope_scaling"].empty();
  const char* key = old_form ? "rope_scaling" : "rope_parameters";
  const Json parameters = top.Has(key) ? json[key] : Json::object();
  if (!parameters.is_object()) return Bad(key, "must be an object");
  for (const char* kind : {"full_attention", "sliding_attention"}) {
    if (parameters.contains(kind))
      return Bad(key, "a rope of its own for each kind of layer is not supported");
  }
  Fields fields(parameters, std::string(key) + ".");
  return ParseScaling(fields, top, c);
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

absl::StatusOr<ModelConfig> ParseModelConfig(const Json& config) {
  if (!config.is_object()) return absl::InvalidArgumentError("config.json: not a JSON object");
  ModelConfig c;
  c.source = config;
  Fields fields(config, "");
  c.family = fields.String("model_type", "");
  RETURN_IF_ERROR(fields.status());
  if (c.family.empty()) return Bad("model_type", "missing");
  const auto family = Families().find(c.family);
  if (family == Families().end()) {
    return Bad("model_type",
               "unsupported family '" + c.family + "' (llama, mistral, qwen2, qwen3)");
  }
  RETURN_IF_ERROR(ParseSizes(fields, family->second, config, c));
  RETURN_IF_ERROR(ParseSwitches(fields, c));
  RETURN_IF_ERROR(ParseWindows(fields, family->second, config, c));
  RETURN_IF_ERROR(ParseRope(fields, config, c));
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
