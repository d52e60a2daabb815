// A model's weights in the order in which decoding reads them. Torch-free.
//
// Projections of one input lie in one matrix: q, k and v; gate and up, interleaved by half panels
// so that their product leaves the registers as SwiGLU's output. Embedding, norms, biases, routers
// and the LM head stay float32 whatever the type of the matrices: they are a small part of what is
// read, or decide (experts, log-probabilities) directly.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "model/model_config.h"
#include "model/ops/cpu/gemm.h"

namespace tramontane {

struct PackedMatrix {
  kernels::WeightType type = kernels::WeightType::kFloat32;
  int64_t inputs = 0;
  int64_t outputs = 0;  // as packed, padding included
  char* weights = nullptr;
  float* scales = nullptr;  // [outputs], int8 alone
  float* bias = nullptr;    // [outputs] or null
};

struct PackedMlp {
  PackedMatrix gate_up, down;
};

// Of what a layer lacks, norms are null and matrices are not set.
struct PackedLayer {
  PackedMatrix qkv, o;
  PackedMatrix router;          // float32, whatever the others are: it decides
  std::vector<PackedMlp> mlps;  // one, or the experts, or none
  float *input_norm = nullptr, *post_norm = nullptr;  // [hidden]
  float *q_norm = nullptr, *k_norm = nullptr;         // [head_dim] or null
};

// The multi-token-prediction head, but for its layer.
struct PackedMtp {
  float *hidden_norm = nullptr, *token_norm = nullptr, *final_norm = nullptr;  // [hidden]
  PackedMatrix joint;  // of [hidden, embedding]
};

// The data of a tensor of `floats` elements under its Hugging Face name, float32, contiguous; null
// when there is no such tensor of that size.
using TensorLookup = std::function<const float*(const std::string& name, int64_t floats)>;

// Allocated once for an architecture, filled as often as there are versions. Not safe to fill and
// read at the same time; many may read.
class PackedWeights {
 public:
  PackedWeights(const ModelConfig& config, kernels::WeightType type);

  // Packs all tensors. NotFound names the first that is missing or of another size; the content is
  // then undefined.
  absl::Status Fill(const TensorLookup& tensor);

  const float* embedding() const { return embedding_; }  // [vocab, hidden]
  const float* final_norm() const { return final_norm_; }
  const PackedLayer& layer(int64_t l) const { return layers_[l]; }
  const PackedMatrix& head() const { return head_; }
  const PackedMtp& mtp() const { return mtp_; }  // not set without one

 private:
  // Hands out pieces of the arena; run without one first, to learn its size.
  struct Carver {
    uintptr_t base = 0;
    uint64_t bytes = 0;
    template <class T>
    T* Take(int64_t count);
  };
  struct Part {  // rows of a matrix that come from one tensor
    std::string name;
    int64_t rows;
  };
  struct Free {
    void operator()(char* p) const;
  };

  uint64_t LayOut(char* base);
  PackedMatrix MakeMatrix(Carver& carver, kernels::WeightType type, int64_t inputs, int64_t outputs,
                          bool bias) const;
  absl::Status FillLayer(int64_t l, const TensorLookup& tensor);
  absl::Status FillMatrix(const PackedMatrix& matrix, const std::vector<Part>& parts,
                          const TensorLookup& tensor);
  absl::Status FillMtp(const TensorLookup& tensor);
  absl::Status FillMlp(int64_t l, int64_t expert, const std::string& prefix,
                       const TensorLookup& tensor);
  absl::Status FillGateUp(const PackedMatrix& matrix, const std::string& gate_name,
                          const std::string& up_name, int64_t width, const TensorLookup& tensor);

  const ModelConfig config_;
  const kernels::WeightType type_;
  const kernels::GemmTable& gemm_;
  std::vector<PackedLayer> layers_;
  PackedMatrix head_;
  PackedMtp mtp_;
  float *embedding_ = nullptr, *final_norm_ = nullptr;
  std::unique_ptr<char, Free> arena_;
};

}  // namespace tramontane
