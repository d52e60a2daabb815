#include "model/fused/packed_weights.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "common/status.h"
#include "model/fused/huge_pages.h"

namespace tramontane {
namespace {

using kernels::WeightType;

constexpr uint64_t kAlign = 64;

uint64_t RoundUp(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

absl::StatusOr<const float*> Find(const TensorLookup& tensor, const std::string& name,
                                  int64_t floats) {
  const float* data = tensor(name, floats);
  if (data == nullptr)
    return absl::NotFoundError("there is no tensor '" + name + "' of " + std::to_string(floats) +
                               " elements");
  return data;
}

absl::Status CopyVector(const TensorLookup& tensor, const std::string& name, int64_t count,
                        float* to) {
  if (to == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const float* data, Find(tensor, name, count));
  std::memcpy(to, data, static_cast<size_t>(count) * sizeof(float));
  return absl::OkStatus();
}

}  // namespace

void PackedWeights::Free::operator()(char* p) const {
  ::operator delete(p, std::align_val_t{kHugePageBytes});
}

template <class T>
T* PackedWeights::Carver::Take(int64_t count) {
  T* piece = reinterpret_cast<T*>(base + bytes);
  bytes += RoundUp(static_cast<uint64_t>(count) * sizeof(T), kAlign);
  return piece;
}

PackedWeights::PackedWeights(const ModelConfig& config, WeightType type)
    : config_(config), type_(type), gemm_(kernels::Gemm()), layers_(config.layers.size()) {
  const uint64_t bytes = RoundUp(LayOut(nullptr), kHugePageBytes);
  arena_.reset(static_cast<char*>(::operator new(bytes, std::align_val_t{kHugePageBytes})));
  AskForHugePages(arena_.get(), bytes);
  LayOut(arena_.get());
}

uint64_t PackedWeights::LayOut(char* base) {
  const ModelConfig& c = config_;
  Carver carver{reinterpret_cast<uintptr_t>(base)};
  embedding_ = carver.Take<float>(c.vocab_size * c.hidden_size);
  for (size_t l = 0; l < layers_.size(); ++l) {
    PackedLayer& layer = layers_[l];
    if (c.layers[l].kv_heads > 0) {
      layer.input_norm = carver.Take<float>(c.hidden_size);
      layer.qkv = MakeMatrix(carver, type_, c.hidden_size, c.q_size() + 2 * c.kv_size(l),
                             c.attention_qkv_bias);
      layer.q_norm = c.qk_norm ? carver.Take<float>(c.head_dim) : nullptr;
      layer.k_norm = c.qk_norm ? carver.Take<float>(c.head_dim) : nullptr;
      layer.o = MakeMatrix(carver, type_, c.q_size(), c.hidden_size, c.attention_out_bias);
    }
    if (const int64_t width = c.layers[l].mlp_width; width > 0) {
      layer.post_norm = carver.Take<float>(c.hidden_size);
      const int64_t experts = c.layers[l].experts;
      if (experts > 0)
        layer.router = MakeMatrix(carver, WeightType::kFloat32, c.hidden_size, experts, false);
      layer.mlps.resize(std::max<int64_t>(experts, 1));
      for (PackedMlp& mlp : layer.mlps) {
        // Both halves padded to whole vectors, so that each panel splits in the middle.
        mlp.gate_up =
            MakeMatrix(carver, type_, c.hidden_size, 2 * RoundUp(width, gemm_.lanes), c.mlp_bias);
        mlp.down = MakeMatrix(carver, type_, width, c.hidden_size, c.mlp_bias);
      }
    }
  }
  final_norm_ = carver.Take<float>(c.hidden_size);
  head_ = MakeMatrix(carver, WeightType::kFloat32, c.hidden_size, c.vocab_size, false);
  if (c.mtp) {
    for (float** norm : {&mtp_.hidden_norm, &mtp_.token_norm, &mtp_.final_norm})
      *norm = carver.Take<float>(c.hidden_size);
    mtp_.joint = MakeMatrix(carver, type_, 2 * c.hidden_size, c.hidden_size, false);
  }
  return carver.bytes;
}

PackedMatrix PackedWeights::MakeMatrix(Carver& carver, WeightType type, int64_t inputs,
                                       int64_t outputs, bool bias) const {
  PackedMatrix matrix{.type = type, .inputs = inputs};
  matrix.outputs = static_cast<int64_t>(RoundUp(outputs, gemm_.lanes));
  matrix.weights = carver.Take<char>(matrix.outputs * inputs * kernels::WeightBytes(type));
  if (type == WeightType::kInt8) matrix.scales = carver.Take<float>(matrix.outputs);
  if (bias) matrix.bias = carver.Take<float>(matrix.outputs);
  return matrix;
}

absl::Status PackedWeights::Fill(const TensorLookup& tensor) {
  const ModelConfig& c = config_;
  RETURN_IF_ERROR(
      CopyVector(tensor, "model.embed_tokens.weight", c.vocab_size * c.hidden_size, embedding_));
  for (size_t l = 0; l < layers_.size(); ++l)
    RETURN_IF_ERROR(FillLayer(static_cast<int64_t>(l), tensor));
  if (c.mtp) RETURN_IF_ERROR(FillMtp(tensor));
  RETURN_IF_ERROR(CopyVector(tensor, "model.norm.weight", c.hidden_size, final_norm_));
  const char* head = c.tie_word_embeddings ? "model.embed_tokens" : "lm_head";
  return FillMatrix(head_, {{head, c.vocab_size}}, tensor);
}

absl::Status PackedWeights::FillLayer(int64_t l, const TensorLookup& tensor) {
  const ModelConfig& c = config_;
  const PackedLayer& layer = layers_[l];
  const std::string prefix = PrefixOfLayer(c, l);
  const std::string attention = prefix + "self_attn.";
  RETURN_IF_ERROR(
      CopyVector(tensor, prefix + "input_layernorm.weight", c.hidden_size, layer.input_norm));
  RETURN_IF_ERROR(CopyVector(tensor, prefix + "post_attention_layernorm.weight", c.hidden_size,
                             layer.post_norm));
  RETURN_IF_ERROR(CopyVector(tensor, attention + "q_norm.weight", c.head_dim, layer.q_norm));
  RETURN_IF_ERROR(CopyVector(tensor, attention + "k_norm.weight", c.head_dim, layer.k_norm));
  if (layer.input_norm != nullptr) {
    RETURN_IF_ERROR(FillMatrix(layer.qkv,
                               {{attention + "q_proj", c.q_size()},
                                {attention + "k_proj", c.kv_size(l)},
                                {attention + "v_proj", c.kv_size(l)}},
                               tensor));
    RETURN_IF_ERROR(FillMatrix(layer.o, {{attention + "o_proj", c.hidden_size}}, tensor));
  }
  if (const int64_t experts = c.layers[l].experts; experts > 0)
    RETURN_IF_ERROR(FillMatrix(layer.router, {{prefix + NameOfRouter(c), experts}}, tensor));
  for (size_t e = 0; e < layer.mlps.size(); ++e)
    RETURN_IF_ERROR(FillMlp(l, static_cast<int64_t>(e), prefix, tensor));
  return absl::OkStatus();
}

absl::Status PackedWeights::FillMtp(const TensorLookup& tensor) {
  const std::string prefix = PrefixOfLayer(config_, config_.num_layers);
  const int64_t hidden = config_.hidden_size;
  RETURN_IF_ERROR(CopyVector(tensor, prefix + "hidden_layernorm.weight", hidden, mtp_.hidden_norm));
  RETURN_IF_ERROR(CopyVector(tensor, prefix + "token_layernorm.weight", hidden, mtp_.token_norm));
  RETURN_IF_ERROR(CopyVector(tensor, prefix + "final_layernorm.weight", hidden, mtp_.final_norm));
  return FillMatrix(mtp_.joint, {{prefix + "input_proj", hidden}}, tensor);
}

absl::Status PackedWeights::FillMlp(int64_t l, int64_t expert, const std::string& prefix,
                                    const TensorLookup& tensor) {
  const PackedMlp& mlp = layers_[l].mlps[expert];
  const MlpNames names = NamesOfMlp(config_, l, expert);
  RETURN_IF_ERROR(FillGateUp(mlp.gate_up, prefix + names.gate, prefix + names.up,
                             config_.layers[l].mlp_width, tensor));
  return FillMatrix(mlp.down, {{prefix + names.down, config_.hidden_size}}, tensor);
}

absl::Status PackedWeights::FillMatrix(const PackedMatrix& matrix, const std::vector<Part>& parts,
                                       const TensorLookup& tensor) {
  std::vector<const float*> rows(matrix.outputs, nullptr);
  int64_t at = 0;
  for (const Part& part : parts) {
    ASSIGN_OR_RETURN(const float* weight,
                     Find(tensor, part.name + ".weight", part.rows * matrix.inputs));
    for (int64_t r = 0; r < part.rows; ++r) rows[at + r] = weight + r * matrix.inputs;
    if (matrix.bias != nullptr)
      RETURN_IF_ERROR(CopyVector(tensor, part.name + ".bias", part.rows, matrix.bias + at));
    at += part.rows;
  }
  if (matrix.bias != nullptr) std::fill(matrix.bias + at, matrix.bias + matrix.outputs, 0.0f);
  gemm_.pack(matrix.type, matrix.outputs, matrix.inputs, rows.data(), matrix.weights,
             matrix.scales);
  return absl::OkStatus();
}

absl::Status PackedWeights::FillGateUp(const PackedMatrix& matrix, const std::string& gate_name,
                                       const std::string& up_name, int64_t width,
                                       const TensorLookup& tensor) {
  std::vector<const float*> rows(matrix.outputs, nullptr);
  const int64_t half = gemm_.panel / 2;
  if (matrix.bias != nullptr) std::fill(matrix.bias, matrix.bias + matrix.outputs, 0.0f);
  for (const bool up : {false, true}) {
    const std::string& name = up ? up_name : gate_name;
    ASSIGN_OR_RETURN(const float* weight, Find(tensor, name + ".weight", width * matrix.inputs));
    const float* bias = nullptr;
    if (matrix.bias != nullptr) {
      ASSIGN_OR_RETURN(bias, Find(tensor, name + ".bias", width));
    }
    for (int64_t r = 0; r < width; ++r) {
      const int64_t panel = r / half * gemm_.panel;
      const int64_t second_half = std::min(gemm_.panel, matrix.outputs - panel) / 2;
      const int64_t output = panel + (up ? second_half : 0) + r % half;
      rows[output] = weight + r * matrix.inputs;
      if (bias != nullptr) matrix.bias[output] = bias[r];
    }
  }
  gemm_.pack(matrix.type, matrix.outputs, matrix.inputs, rows.data(), matrix.weights,
             matrix.scales);
  return absl::OkStatus();
}

}  // namespace tramontane
