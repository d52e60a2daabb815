// A Hugging Face config.json as one struct, for the Llama, Mistral, Qwen2, Qwen3, MiMo,
// Llama-Nemotron, Qwen3-MoE and Mixtral families. Torch-free. Reads the forms that transformers 4
// and 5 write.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tramontane {

struct RopeScaling {
  std::string kind = "default";  // default | linear | dynamic | llama3 | yarn
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32, beta_slow = 1;                  // yarn
  std::optional<double> attention_factor, mscale, mscale_all_dim;
  bool truncate = true;  // yarn: whole dimensions at the ramp's ends
  int64_t original_max_position_embeddings = 0;
};

// What one layer has of its own: the layers of a model may differ.
struct LayerShape {
  int64_t kv_heads = 0;   // 0: no attention, and no norm before it
  int64_t mlp_width = 0;  // of each expert, if there are; 0: no MLP, and no norm before it
  int64_t experts = 0;    // MLPs among which a router chooses for each token; 0: one for all
  int64_t window = 0;     // of its attention, in tokens; 0: full

  bool operator==(const LayerShape&) const = default;
};

struct ModelConfig {
  // llama | mistral | qwen2 | qwen3 | mimo | nemotron-nas | qwen3_moe | mixtral
  std::string family;
  int64_t vocab_size = 0, hidden_size = 0;
  int64_t num_layers = 0, num_heads = 0, head_dim = 0;
  // num_layers, and behind them that of the multi-token-prediction head, if the model has one.
  std::vector<LayerShape> layers;
  bool mtp = false;  // a head that foresees the token after the next; model/transformer.h
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6, rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool qk_norm = false;             // Qwen3
  bool attention_qkv_bias = false;  // Qwen2; Llama's attention_bias
  bool attention_out_bias = false;
  bool mlp_bias = false;
  int64_t experts_per_token = 0;       // in the layers that have experts
  bool normalise_experts = false;      // the chosen experts' probabilities are scaled to sum to 1
  std::vector<int32_t> eos_token_ids;  // config.json and generation_config.json together
  std::string dtype = "float32";
  double initializer_range = 0.02;
  nlohmann::json source;  // config.json as read; written back unchanged on save

  int64_t q_size() const { return num_heads * head_dim; }
  int64_t kv_size(int64_t layer) const { return layers[layer].kv_heads * head_dim; }
  int64_t most_kv_heads() const;   // of any layer
  int64_t most_mlp_width() const;  // of any layer
  // Of the num_layers.
  int64_t attention_layers() const;
  int64_t expert_layers() const;
  // Bytes that say through which experts one token went: [expert layers, experts per token].
  int64_t route_size() const { return expert_layers() * experts_per_token; }
  // Weights of these layers' matrices that one token is multiplied with.
  int64_t matrix_weights() const;
};

// Experts are told apart by a byte.
inline constexpr int64_t kMostExperts = 255;

// What stands before the names of a layer's tensors: "model.layers.3.", and MiMo's name for the
// multi-token-prediction head.
std::string PrefixOfLayer(const ModelConfig& config, int64_t layer);

// Hugging Face's names of an MLP's tensors, without what stands before ("model.layers.3.") and
// behind (".weight"). `expert` counts where the layer has experts.
struct MlpNames {
  std::string gate, up, down;
};
MlpNames NamesOfMlp(const ModelConfig& config, int64_t layer, int64_t expert);
std::string NameOfRouter(const ModelConfig& config);

// InvalidArgument names the field; unknown families and rope kinds are refused.
absl::StatusOr<ModelConfig> ParseModelConfig(const nlohmann::json& config);
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& model_dir);

}  // namespace tramontane
