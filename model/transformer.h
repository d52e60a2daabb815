// The decoder-only transformer, the same code for generator and trainer.
//
// torch::nn::Module is used for ownership and names (parameter names equal Hugging Face keys, so
// loader, checkpoint and weight manifest share one list); the mathematics is in model/ops.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/attention.h"
#include "model/model_config.h"
#include "model/rope.h"
#include "model/routing.h"

namespace tramontane {

class Transformer : public torch::nn::Module {
 public:
  // Parameters are allocated, not initialised: load a checkpoint or call InitRandom.
  Transformer(ModelConfig config, at::Device device = at::kCPU, at::ScalarType dtype = at::kFloat);
  ~Transformer() override;

  // A model alike, on the same device, with weights of its own.
  std::shared_ptr<Transformer> Clone() const;
  void CopyFrom(const Transformer& other);  // the values of a model of the same configuration

  void InitRandom(uint64_t seed);  // normal(0, initializer_range); norms 1, biases 0

  // tokens_T, positions_T: int64 [tokens]. Returns final-normed hidden states [tokens, hidden].
  // Differentiable unless a NoGrad or Inference guard is active. `routing`: for models with
  // experts, may be null.
  at::Tensor Forward(const at::Tensor& tokens_T, const at::Tensor& positions_T,
                     Attention& attention, Routing* routing = nullptr);

  // Each layer keeps its input alone for the backward pass (model/recompute.h); `attention` must
  // then live until that is over. Off at first.
  void set_recompute_layers(bool recompute) { recompute_layers_ = recompute; }

  // The multi-token-prediction head, where config().mtp: from what Forward returned and the token
  // behind each, hidden states [tokens, hidden] whose logits foresee the token after that one. It
  // attends as layer num_layers. Differentiable for its own parameters alone: neither the hidden
  // states nor the embedding learn from it.
  at::Tensor MtpForward(const at::Tensor& hidden_TE, const at::Tensor& next_tokens_T,
                        const at::Tensor& positions_T, Attention& attention);

  // hidden [rows, hidden] → float32 logits [rows, vocab].
  at::Tensor Logits(const at::Tensor& hidden_RD);
  // The LM head's weight [vocab, hidden] (the embedding when tied).
  const at::Tensor& lm_head_weight() const;

  // Name and tensor, in the fixed order of the weight manifest; tied weights appear once.
  std::vector<std::pair<std::string, at::Tensor>> NamedWeights() const;

  const ModelConfig& config() const { return config_; }

 private:
  struct Layers;
  at::Tensor RunAttention(int64_t layer, const at::Tensor& x_TE, const RopeRows& rope,
                          Attention& attention) const;

  ModelConfig config_;
  bool recompute_layers_ = false;
  std::unique_ptr<Layers> layers_;
};

}  // namespace tramontane
