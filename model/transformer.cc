#include "model/transformer.h"

#include <torch/types.h>

#include "model/decoder_layer.h"
#include "model/experts.h"
#include "model/ops/rms_norm.h"
#include "model/recompute.h"
#include "model/rope.h"

namespace tramontane {

namespace {

// A module that only holds: the nodes between the dots of a parameter's name.
class Node : public torch::nn::Module {
 public:
  using Module::Module;
};

void RegisterByPath(torch::nn::Module& root, const std::string& path, const at::Tensor& tensor) {
  torch::nn::Module* node = &root;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    const std::string name = path.substr(begin, dot - begin);
    const auto children = node->named_children();
    const auto* child = children.find(name);
    node = child != nullptr ? child->get()
                            : node->register_module(name, std::make_shared<Node>(name)).get();
    begin = dot + 1;
  }
  node->register_parameter(path.substr(begin), tensor);
}

bool EndsWith(const std::string& s, const std::string& end) {
  return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

struct Transformer::Layers {
  Layers(const ModelConfig& config, at::Device device, at::ScalarType dtype)
      : rope(config, device, dtype) {
    const auto leaf = [&](at::IntArrayRef shape) {
      return at::empty(shape, at::TensorOptions().device(device).dtype(dtype))
          .set_requires_grad(true);
    };
    embedding_VE = leaf({config.vocab_size, config.hidden_size});
    norm_E = leaf({config.hidden_size});
    if (!config.tie_word_embeddings) head_VE = leaf({config.vocab_size, config.hidden_size});
    const auto count = static_cast<int64_t>(config.layers.size());
    layers.reserve(count);
    for (int64_t l = 0; l < count; ++l) layers.emplace_back(config, l, device, dtype);
    if (!config.mtp) return;
    mtp_token_norm_E = leaf({config.hidden_size});
    mtp_hidden_norm_E = leaf({config.hidden_size});
    mtp_joint_EJ = leaf({config.hidden_size, 2 * config.hidden_size});
    mtp_norm_E = leaf({config.hidden_size});
  }

  at::Tensor embedding_VE, norm_E, head_VE;  // head undefined when tied
  at::Tensor mtp_token_norm_E, mtp_hidden_norm_E, mtp_joint_EJ, mtp_norm_E;  // undefined without
  std::vector<DecoderLayer> layers;
  RopeTable rope;
};

Transformer::Transformer(ModelConfig config, at::Device device, at::ScalarType dtype)
    : config_(std::move(config)), layers_(std::make_unique<Layers>(config_, device, dtype)) {
  for (const auto& [name, tensor] : NamedWeights()) RegisterByPath(*this, name, tensor);
}

Transformer::~Transformer() = default;

std::shared_ptr<Transformer> Transformer::Clone() const {
  const at::Tensor& any = layers_->embedding_VE;
  auto clone = std::make_shared<Transformer>(config_, any.device(), any.scalar_type());
  clone->CopyFrom(*this);
  return clone;
}

void Transformer::CopyFrom(const Transformer& other) {
  const at::NoGradGuard no_grad;
  const auto from = other.NamedWeights();
  auto to = NamedWeights();
  TORCH_CHECK(from.size() == to.size(), "copying the weights of another kind of model");
  for (size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
}

void Transformer::InitRandom(uint64_t seed) {
  at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (auto& [name, tensor] : NamedWeights()) {
    if (EndsWith(name, "norm.weight") || EndsWith(name, "layernorm.weight")) {
      tensor.fill_(1);
    } else if (EndsWith(name, ".bias")) {
      tensor.zero_();
    } else {
      // Drawn in float32 on the CPU, so that a seed means the same on every device and dtype.
      tensor.copy_(at::normal(0.0, config_.initializer_range, tensor.sizes(), generator));
    }
  }
}

at::Tensor Transformer::Forward(const at::Tensor& tokens_T, const at::Tensor& positions_T,
                                Attention& attention, Routing* routing) {
  TORCH_CHECK(tokens_T.dim() == 1 && tokens_T.sizes() == positions_T.sizes(),
              "forward: tokens and positions must be vectors of one length");
  const RopeRows rope = layers_->rope.For(positions_T, attention);
  if (routing != nullptr) {
    const std::vector<int64_t> shape = {tokens_T.numel(), config_.expert_layers(),
                                        config_.experts_per_token};
    TORCH_CHECK(
        !routing->asked_TLK.defined() || routing->asked_TLK.sizes() == at::IntArrayRef(shape),
        "forward: routing has another shape than tokens, layers and experts");
    routing->taken_TLK = at::empty(shape, at::kByte);
  }
  int64_t with_experts = 0;
  at::Tensor x_TE = at::embedding(layers_->embedding_VE, tokens_T);
  for (int64_t l = 0; l < config_.num_layers; ++l) {
    const DecoderLayer& layer = layers_->layers[l];
    const auto mlp = [&layer, routing, nth = with_experts,
                      taken_TLK = routing != nullptr ? routing->taken_TLK : at::Tensor(),
                      experts = config_.layers[l].experts > 0](const at::Tensor& in_TE) {
      if (!experts) return layer.Mlp(in_TE);
      if (routing == nullptr || !IsRecomputing()) return ExpertsMlp(layer, in_TE, routing, nth);
      Routing again{.asked_TLK = taken_TLK, .taken_TLK = at::empty_like(taken_TLK)};
      return ExpertsMlp(layer, in_TE, &again, nth);  // the caller's may be gone by now
    };
    const auto run = [this, &layer, &attention, mlp, rope, l](const at::Tensor& in_TE) {
      return mlp(layer.has_attention() ? RunAttention(l, in_TE, rope, attention) : in_TE);
    };
    with_experts += config_.layers[l].experts > 0;
    const bool recompute =
        recompute_layers_ && at::GradMode::is_enabled() && !layer.parameters().empty();
    x_TE = recompute ? Recomputed(run, x_TE, layer.leaves()) : run(x_TE);
  }
  return RmsNorm(x_TE, layers_->norm_E, config_.rms_norm_eps);
}

at::Tensor Transformer::RunAttention(int64_t l, const at::Tensor& x_TE, const RopeRows& rope,
                                     Attention& attention) const {
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  const DecoderLayer& layer = layers_->layers[l];
  const AttentionInput in = layer.BeforeAttention(x_TE, rope);
  const at::Tensor attended_THD =
      attention.Run(l, in.q_THD, in.k_TKD, in.v_TKD, scale, config_.layers[l].window);
  return layer.AfterAttention(attended_THD, in.residual_TE);
}

at::Tensor Transformer::MtpForward(const at::Tensor& hidden_TE, const at::Tensor& next_tokens_T,
                                   const at::Tensor& positions_T, Attention& attention) {
  TORCH_CHECK(config_.mtp, "this model has no multi-token-prediction head");
  const at::Tensor next_TE = at::embedding(layers_->embedding_VE.detach(), next_tokens_T);
  const at::Tensor joint_TJ =
      at::cat({RmsNorm(hidden_TE.detach(), layers_->mtp_hidden_norm_E, config_.rms_norm_eps),
               RmsNorm(next_TE, layers_->mtp_token_norm_E, config_.rms_norm_eps)},
              -1);
  at::Tensor x_TE = at::linear(joint_TJ, layers_->mtp_joint_EJ);
  x_TE =
      RunAttention(config_.num_layers, x_TE, layers_->rope.For(positions_T, attention), attention);
  x_TE = layers_->layers.back().Mlp(x_TE);
  return RmsNorm(x_TE, layers_->mtp_norm_E, config_.rms_norm_eps);
}

at::Tensor Transformer::Logits(const at::Tensor& hidden_RD) {
  const at::Tensor& head = lm_head_weight();
  if (head.scalar_type() == at::kFloat || head.scalar_type() == at::kDouble) {
    return at::mm(hidden_RD, head.t()).to(at::kFloat);
  }
  return at::mm(hidden_RD.to(at::kFloat), head.to(at::kFloat).t());
}

const at::Tensor& Transformer::lm_head_weight() const {
  return layers_->head_VE.defined() ? layers_->head_VE : layers_->embedding_VE;
}

std::vector<std::pair<std::string, at::Tensor>> Transformer::NamedWeights() const {
  std::vector<std::pair<std::string, at::Tensor>> weights;
  weights.emplace_back("model.embed_tokens.weight", layers_->embedding_VE);
  for (size_t l = 0; l < layers_->layers.size(); ++l) {
    const std::string prefix = PrefixOfLayer(config_, static_cast<int64_t>(l));
    for (const auto& [name, tensor] : layers_->layers[l].parameters()) {
      weights.emplace_back(prefix + name, tensor);
    }
  }
  if (config_.mtp) {
    const std::string prefix = PrefixOfLayer(config_, config_.num_layers);
    weights.emplace_back(prefix + "token_layernorm.weight", layers_->mtp_token_norm_E);
    weights.emplace_back(prefix + "hidden_layernorm.weight", layers_->mtp_hidden_norm_E);
    weights.emplace_back(prefix + "input_proj.weight", layers_->mtp_joint_EJ);
    weights.emplace_back(prefix + "final_layernorm.weight", layers_->mtp_norm_E);
  }
  weights.emplace_back("model.norm.weight", layers_->norm_E);
  if (layers_->head_VE.defined()) weights.emplace_back("lm_head.weight", layers_->head_VE);
  return weights;
}

}  // namespace tramontane
