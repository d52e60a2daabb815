// From config.json to what each layer has: heads, widths, experts, windows. Torch-free.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "model/json_fields.h"
#include "model/model_config.h"

namespace tramontane {

// What transformers' configuration classes assume where a file says nothing.
struct FamilyDefaults {
  int64_t max_position_embeddings;
  int64_t num_kv_heads;  // 0: as many as query heads
  int64_t head_dim;      // 0: hidden / heads
  int64_t sliding_window;
  double rms_norm_eps = 1e-6, rope_theta = 10000;
};

// Fills c.layers; the sizes above them are parsed already. Layers differ where the file says so, in
// Llama-Nemotron's form (block_configs) or in ours, which any other family may have:
//   "layers": [{}, {"num_key_value_heads": 0}, {"intermediate_size": 640}, {"intermediate_size":
//   0}]
// names one object for each layer, with what is its own; 0 leaves attention or MLP out.
// num_nextn_predict_layers: 1 adds the layer of a multi-token-prediction head.
// InvalidArgument names the field.
absl::Status ParseLayers(JsonFields& fields, const FamilyDefaults& defaults,
                         const nlohmann::json& json, ModelConfig& c);

}  // namespace tramontane
