#include "model/init.h"

#include <algorithm>
#include <filesystem>

#include "common/files.h"
#include "common/status.h"
#include "model/checkpoint.h"

namespace tramontane {

namespace {

using Json = nlohmann::json;

// One more than the largest id that tokenizer.json knows.
absl::StatusOr<int64_t> TokenizerVocabSize(const std::string& tokenizer_dir) {
  const std::string path = tokenizer_dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  int64_t largest = -1;
  const auto see = [&](const Json& id) {
    if (id.is_number_integer()) largest = std::max(largest, id.get<int64_t>());
  };
  if (json.is_object() && json.contains("model") && json["model"].is_object() &&
      json["model"].contains("vocab") && json["model"]["vocab"].is_object()) {
    for (const auto& [token, id] : json["model"]["vocab"].items()) see(id);
  }
  if (json.is_object() && json.contains("added_tokens") && json["added_tokens"].is_array()) {
    for (const Json& token : json["added_tokens"]) {
      if (token.is_object() && token.contains("id")) see(token["id"]);
    }
  }
  if (largest < 0) return absl::InvalidArgumentError(path + ": no vocabulary; give vocab_size");
  return largest + 1;
}

const char* ArchitectureOf(const std::string& family) {
  if (family == "llama") return "LlamaForCausalLM";
  if (family == "mistral") return "MistralForCausalLM";
  if (family == "qwen2") return "Qwen2ForCausalLM";
  if (family == "mimo") return "MiMoForCausalLM";
  if (family == "nemotron-nas") return "DeciLMForCausalLM";
  if (family == "qwen3_moe") return "Qwen3MoeForCausalLM";
  if (family == "mixtral") return "MixtralForCausalLM";
  return "Qwen3ForCausalLM";
}

}  // namespace

absl::StatusOr<int64_t> InitModel(const Json& config_fields, const std::string& tokenizer_dir,
                                  const std::string& out_dir, uint64_t seed) {
  if (!config_fields.is_object())
    return absl::InvalidArgumentError("model config: must be an object");
  Json config = config_fields;
  if (!config.contains("vocab_size") && !tokenizer_dir.empty()) {
    ASSIGN_OR_RETURN(config["vocab_size"], TokenizerVocabSize(tokenizer_dir));
  }
  ASSIGN_OR_RETURN(const ModelConfig first, ParseModelConfig(config));
  config["architectures"] = Json::array({ArchitectureOf(first.family)});
  // Spelled out, so that nobody's class defaults decide what this model is.
  if (!config.contains("layers") && !config.contains("block_configs"))
    config["num_key_value_heads"] = first.most_kv_heads();
  config["head_dim"] = first.head_dim;
  config["max_position_embeddings"] = first.max_position_embeddings;
  config["rms_norm_eps"] = first.rms_norm_eps;
  config["tie_word_embeddings"] = first.tie_word_embeddings;
  config["initializer_range"] = first.initializer_range;
  config["hidden_act"] = "silu";
  if (!config.contains("sliding_window")) config["sliding_window"] = nullptr;
  config.erase("torch_dtype");
  config["dtype"] = "float32";
  ASSIGN_OR_RETURN(const ModelConfig parsed, ParseModelConfig(config));
  if (std::filesystem::exists(out_dir + "/config.json")) {
    return absl::AlreadyExistsError(out_dir + ": there is a model already");
  }
  try {
    Transformer model(parsed);
    model.InitRandom(seed);
    RETURN_IF_ERROR(SaveTransformer(model, tokenizer_dir, out_dir));
    int64_t parameters = 0;
    for (const auto& [name, tensor] : model.NamedWeights()) parameters += tensor.numel();
    return parameters;
  } catch (const std::exception& error) {
    return absl::InternalError(out_dir + ": " + error.what());
  }
}

}  // namespace tramontane
