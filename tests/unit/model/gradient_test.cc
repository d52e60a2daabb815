// Hand-written backward passes against autograd over plain ATen operators, in float64.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <thread>

#include "common/rollout.h"
#include "model/decoder_layer_cpu.h"
#include "model/ops/logprob.h"
#include "model/ops/rms_norm.h"
#include "model/packed_attention.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

nlohmann::json Config(const std::string& family) {
  nlohmann::json json = {{"model_type", family},
                         {"vocab_size", 37},
                         {"hidden_size", 24},
                         {"intermediate_size", 20},
                         {"num_hidden_layers", 2},
                         {"num_attention_heads", 4},
                         {"num_key_value_heads", 2},
                         {"head_dim", 6},
                         {"max_position_embeddings", 64},
                         {"initializer_range", 0.4},
                         {"sliding_window", nullptr}};
  if (family == "mistral") json["sliding_window"] = 4;
  if (family == "llama" || family == "qwen3") json["attention_bias"] = true;
  if (family == "llama") json["mlp_bias"] = true;
  if (family == "qwen2") json["tie_word_embeddings"] = true;
  if (family == "qwen3_moe") {  // the first layer is dense
    json.update({{"num_experts", 3},
                 {"num_experts_per_tok", 2},
                 {"moe_intermediate_size", 14},
                 {"norm_topk_prob", true},
                 {"mlp_only_layers", {0}}});
  }
  if (family == "mixtral") {
    json["num_local_experts"] = 4;
    json["num_experts_per_tok"] = 3;
  }
  if (family == "layers") {  // a llama whose layers differ
    json["model_type"] = "llama";
    json["num_hidden_layers"] = 4;
    json["layers"] = nlohmann::json::parse(
        R"([{"num_key_value_heads": 1}, {"num_key_value_heads": 0}, {"intermediate_size": 0},
            {"num_key_value_heads": 4, "intermediate_size": 28}])");
  }
  return json;
}

struct Batch {
  std::vector<int64_t> offsets = {0, 5, 6, 19, 40};
  at::Tensor tokens, positions;
  Batch() {
    torch::manual_seed(5);
    tokens = torch::randint(37, {40}, torch::kLong);
    positions = torch::empty({40}, torch::kLong);
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      for (int64_t t = offsets[s]; t < offsets[s + 1]; ++t) positions[t] = t - offsets[s];
    }
  }
};

// Attention by an explicit mask over all tokens.
class MaskedAttention final : public Attention {
 public:
  explicit MaskedAttention(const std::vector<int64_t>& offsets)
      : segment_(torch::zeros({offsets.back()})) {
    for (size_t s = 0; s + 1 < offsets.size(); ++s)
      segment_.slice(0, offsets[s], offsets[s + 1]).fill_(double(s));
  }
  at::Tensor Run(int64_t, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 double scale, int64_t window) override {
    const int64_t rows = q.size(0), group = q.size(1) / k.size(1);
    const at::Tensor i = torch::arange(rows).unsqueeze(1), j = torch::arange(rows).unsqueeze(0);
    at::Tensor mask = (j <= i) & (segment_.unsqueeze(1) == segment_.unsqueeze(0));
    if (window > 0) mask = mask & (j > i - window);
    const at::Tensor scores =
        torch::einsum("ihd,jhd->hij", {q, k.repeat_interleave(group, 1)}) * scale;
    const at::Tensor p = scores.masked_fill(~mask, -INFINITY).softmax(-1);
    return torch::einsum("hij,jhd->ihd", {p, v.repeat_interleave(group, 1)});
  }

 private:
  at::Tensor segment_;
};

class Gradients : public ::testing::TestWithParam<const char*> {};

void RandomiseAll(Transformer& model) {
  at::NoGradGuard no_grad;
  for (auto& [name, tensor] : model.NamedWeights()) {
    if (tensor.dim() == 1) tensor.uniform_(0.5, 1.5);
  }
}

std::vector<at::Tensor> Parameters(const Transformer& model) {
  std::vector<at::Tensor> parameters;
  for (auto& [name, tensor] : model.NamedWeights()) parameters.push_back(tensor);
  return parameters;
}

TEST_P(Gradients, OfTheWholeModelMatchReferenceAutograd) {
  const Batch batch;
  Transformer model(*ParseModelConfig(Config(GetParam())), at::kCPU, at::kDouble);
  model.InitRandom(3);
  RandomiseAll(model);
  const at::Tensor weights = torch::randn({40}, torch::kDouble),
                   entropy_weights = torch::randn({40}, torch::kDouble);

  PackedAttention attention(batch.offsets);
  const at::Tensor hidden = model.Forward(batch.tokens, batch.positions, attention);
  const LogprobResult r =
      ChunkedLogprob(hidden, model.lm_head_weight(), batch.tokens, 0.7, true, 17);
  const at::Tensor loss = (r.logprob * weights).sum() + (r.entropy * entropy_weights).sum();
  const auto grads = torch::autograd::grad({loss}, Parameters(model));

  // The same from plain operators, over the same leaves, built from the names.
  std::map<std::string, at::Tensor> w;
  for (auto& [name, tensor] : model.NamedWeights()) w[name] = tensor;
  const ModelConfig& c = model.config();
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    at::Tensor y = torch::matmul(x, w.at(name + ".weight").t());
    return w.contains(name + ".bias") ? y + w.at(name + ".bias") : y;
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return RmsNormAten(x, w.at(name + ".weight"), c.rms_norm_eps);
  };
  RopeTable table(c, at::kCPU, at::kDouble);
  const RopeRows rope = table.For(batch.positions, attention);
  const auto turn = [&](const at::Tensor& x) {
    const auto cos =
        torch::cat({rope.cos_PH, rope.cos_PH}, 1).index_select(0, rope.index_T).unsqueeze(1);
    const auto sin =
        torch::cat({rope.sin_PH, rope.sin_PH}, 1).index_select(0, rope.index_T).unsqueeze(1);
    const auto halves = x.chunk(2, -1);
    return x * cos + torch::cat({-halves[1], halves[0]}, -1) * sin;
  };
  MaskedAttention masked(batch.offsets);
  at::Tensor x = w.at("model.embed_tokens.weight").index_select(0, batch.tokens);
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const std::string p = "model.layers." + std::to_string(l) + ".";
    if (c.layers[l].kv_heads > 0) {
      const at::Tensor y = norm(x, p + "input_layernorm");
      const auto heads = [&](const char* name) {
        return linear(y, p + "self_attn." + name).unflatten(1, {-1, c.head_dim});
      };
      at::Tensor q = heads("q_proj"), k = heads("k_proj");
      if (c.qk_norm) {
        q = norm(q, p + "self_attn.q_norm");
        k = norm(k, p + "self_attn.k_norm");
      }
      const at::Tensor attended =
          masked.Run(l, turn(q), turn(k), heads("v_proj"), 1 / std::sqrt(6.0), c.layers[l].window);
      x = x + linear(attended.flatten(1), p + "self_attn.o_proj");
    }
    if (c.layers[l].mlp_width == 0) continue;
    const at::Tensor z = norm(x, p + "post_attention_layernorm");
    const auto mlp = [&](int64_t expert) {
      const MlpNames names = NamesOfMlp(c, l, expert);
      return linear(at::silu(linear(z, p + names.gate)) * linear(z, p + names.up), p + names.down);
    };
    if (c.layers[l].experts == 0) {
      x = x + mlp(0);
      continue;
    }
    // Every expert for every token, with share 0 where it was not chosen.
    const at::Tensor probability = linear(z, p + NameOfRouter(c)).softmax(1);
    const auto [value, chosen] = probability.topk(c.experts_per_token, 1);
    at::Tensor share = torch::zeros_like(probability).scatter(1, chosen, 1.0) * probability;
    if (c.normalise_experts) share = share / share.sum(1, true);
    for (int64_t e = 0; e < c.layers[l].experts; ++e)
      x = x + share.select(1, e).unsqueeze(1) * mlp(e);
  }
  const at::Tensor logp =
      (linear(norm(x, "model.norm"), c.tie_word_embeddings ? "model.embed_tokens" : "lm_head") /
       0.7)
          .log_softmax(1);
  const at::Tensor reference =
      (logp.gather(1, batch.tokens.unsqueeze(1)).squeeze(1) * weights).sum() -
      ((logp.exp() * logp).sum(1) * entropy_weights).sum();
  const auto expected = torch::autograd::grad({reference}, Parameters(model));

  EXPECT_NEAR(loss.item<double>(), reference.item<double>(),
              1e-9 * std::abs(reference.item<double>()) + 1e-9);
  const auto names = model.NamedWeights();
  for (size_t i = 0; i < grads.size(); ++i) {
    const double size = expected[i].abs().max().item<double>();
    EXPECT_GT(size, 0) << names[i].first;
    EXPECT_LT((grads[i] - expected[i]).abs().max().item<double>(), 1e-9 * size + 1e-10)
        << names[i].first;
  }
}

TEST_P(Gradients, DoNotDependOnPacking) {
  const Batch batch;
  Transformer model(*ParseModelConfig(Config(GetParam())));
  model.InitRandom(4);
  const auto run = [&](int64_t first, int64_t last) {  // segments [first, last)
    const int64_t begin = batch.offsets[first], end = batch.offsets[last];
    std::vector<int64_t> offsets;
    for (int64_t s = first; s <= last; ++s) offsets.push_back(batch.offsets[s] - begin);
    PackedAttention attention(offsets);
    const at::Tensor tokens = batch.tokens.slice(0, begin, end);
    const at::Tensor hidden =
        model.Forward(tokens, batch.positions.slice(0, begin, end), attention);
    return torch::autograd::grad(
        {ChunkedLogprob(hidden, model.lm_head_weight(), tokens, 1.0, false).logprob.sum()},
        Parameters(model));
  };
  const auto whole = run(0, 4);
  // Two threads at once, as the learner does.
  std::vector<at::Tensor> left, right;
  std::thread a([&] { left = run(0, 2); }), b([&] { right = run(2, 4); });
  a.join();
  b.join();
  for (size_t i = 0; i < whole.size(); ++i) {
    const double size = whole[i].abs().max().item<double>();
    EXPECT_LT((whole[i] - left[i] - right[i]).abs().max().item<double>(), 1e-4 * size);
  }
}

// Two sequences of 9 and 5 tokens that begin with the same 4, and one more, against all three
// whole.
TEST_P(Gradients, OfABeginningThatSeveralShareAreTheSums) {
  Transformer model(*ParseModelConfig(Config(GetParam())), at::kCPU, at::kDouble);
  model.InitRandom(3);
  RandomiseAll(model);
  const auto longs = [](std::vector<int64_t> values) { return at::tensor(values, at::kLong); };
  const at::Tensor rows = longs({0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 9, 10, 11, 12});
  const at::Tensor tokens = torch::randint(37, {13}, torch::kLong),
                   weights = torch::randn({17}, torch::kDouble),
                   positions = longs({0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 0, 1, 2});
  const auto run = [&](const at::Tensor& ids, const at::Tensor& where, PackedAttention attention,
                       const at::Tensor& hidden_rows) {
    const at::Tensor hidden = model.Forward(ids, where, attention).index_select(0, hidden_rows);
    const at::Tensor loss =
        (ChunkedLogprob(hidden, model.lm_head_weight(), tokens.index_select(0, rows), 0.7, false)
             .logprob *
         weights)
            .sum();
    return std::pair(loss.item<double>(), torch::autograd::grad({loss}, Parameters(model)));
  };
  const auto shared =
      run(tokens, positions, PackedAttention({0, 4, 9, 10, 13}, {0, 1, 1, 0}), rows);
  const auto whole =
      run(tokens.index_select(0, rows), longs({0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 0, 1, 2}),
          PackedAttention({0, 9, 14, 17}), at::arange(17));
  EXPECT_NEAR(shared.first, whole.first, 1e-9 * std::abs(whole.first));
  for (size_t i = 0; i < whole.second.size(); ++i) {
    const double size = whole.second[i].abs().max().item<double>();
    EXPECT_GT(size, 0);
    EXPECT_LT((shared.second[i] - whole.second[i]).abs().max().item<double>(), 1e-9 * size) << i;
  }
}

// Of a type that has no kernel of ours.
TEST(PackedAttentionTest, BeginningsAreSharedInBfloat16Too) {
  const auto options = at::TensorOptions().dtype(at::kBFloat16);
  const at::Tensor q = torch::randn({12, 4, 8}, options), k = torch::randn({12, 2, 8}, options),
                   v = torch::randn({12, 2, 8}, options);
  const std::vector<int64_t> picked = {0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 7, 8, 9, 10, 11};
  const at::Tensor rows = at::tensor(picked, at::kLong);
  const auto pick = [&](const at::Tensor& t) { return t.index_select(0, rows); };
  for (const int64_t window : {0, 3}) {
    PackedAttention shared({0, 4, 7, 7, 10, 12}, {0, 1, 1, 1, 0}), whole({0, 7, 14, 16});
    const at::Tensor out = shared.Run(0, q, k, v, 0.5, window),
                     expected = whole.Run(0, pick(q), pick(k), pick(v), 0.5, window);
    EXPECT_TRUE(torch::allclose(pick(out), expected, 0, 0.03)) << window;
  }
}

TEST(PackedAttentionTest, ContinuationsOfNothingAreRefused) {
  EXPECT_THROW(PackedAttention({0, 4, 7}, {1, 0}), c10::Error);
  EXPECT_THROW(PackedAttention({0, 4, 7}, {0}), c10::Error);
  const std::vector<int64_t> positions = {0, 1, 1};
  EXPECT_THROW(PackedAttention({0, 1, 2, 3}, {0, 1, 1}).RopeLengths(positions), c10::Error);
}

class LayerGradients : public Gradients {};

TEST_P(LayerGradients, MatchTheOperatorPathInFloat32) {
  const ModelConfig config = *ParseModelConfig(Config(GetParam()));
  DecoderLayer layer(config, /*layer=*/0, at::kCPU, at::kFloat);
  {
    at::NoGradGuard no_grad;
    for (auto& [name, tensor] : layer.parameters())
      const_cast<at::Tensor&>(tensor).normal_(0.3, 0.5);
  }
  const Batch batch;
  PackedAttention attention(batch.offsets);
  const RopeRows rope = RopeTable(config, at::kCPU, at::kFloat).For(batch.positions, attention);
  at::Tensor x = torch::randn({40, 24}).requires_grad_(true);
  std::vector<at::Tensor> leaves = {x};
  for (auto& [name, tensor] : layer.parameters()) leaves.push_back(tensor);
  const at::Tensor weights = torch::randn({40, 24});
  const auto run = [&](auto before, auto after, auto mlp) {
    const AttentionInput in = before(layer, x, rope);
    const at::Tensor y =
        mlp(layer,
            after(layer, attention.Run(0, in.q_THD, in.k_TKD, in.v_TKD, 0.4, 0), in.residual_TE));
    return std::pair(y, torch::autograd::grad({(y * weights).sum()}, leaves));
  };
  const auto fused = run(cpu::BeforeAttention, cpu::AfterAttention, cpu::Mlp);
  const auto plain = run(reference::BeforeAttention, reference::AfterAttention, reference::Mlp);
  EXPECT_TRUE(torch::allclose(fused.first, plain.first, 1e-4, 1e-4));
  for (size_t i = 0; i < leaves.size(); ++i) {
    const double size = plain.second[i].abs().max().item<double>();
    EXPECT_LT((fused.second[i] - plain.second[i]).abs().max().item<double>(), 1e-4 * size) << i;
  }
}

TEST_P(Gradients, WithoutGradTheForwardIsTheSame) {
  const Batch batch;
  Transformer model(*ParseModelConfig(Config(GetParam())));
  model.InitRandom(4);
  PackedAttention attention(batch.offsets);
  const at::Tensor with = model.Forward(batch.tokens, batch.positions, attention);
  EXPECT_TRUE(with.requires_grad());
  at::NoGradGuard no_grad;
  const at::Tensor without = model.Forward(batch.tokens, batch.positions, attention);
  EXPECT_FALSE(without.requires_grad());
  EXPECT_TRUE(torch::equal(with, without));
  c10::InferenceMode inference;
  EXPECT_TRUE(torch::equal(with, model.Forward(batch.tokens, batch.positions, attention)));
}

// What is asked for is taken, whatever the router thinks; what is left to it is its own choice.
TEST_P(Gradients, FollowTheRoutesThatAreAskedFor) {
  const Batch batch;
  Transformer model(*ParseModelConfig(Config(GetParam())), at::kCPU, at::kDouble);
  model.InitRandom(3);
  const at::NoGradGuard no_grad;
  PackedAttention attention(batch.offsets);
  const auto run = [&](Routing& routing) {
    return model.Forward(batch.tokens, batch.positions, attention, &routing);
  };
  Routing own;
  const at::Tensor plain = run(own);
  EXPECT_TRUE(torch::equal(plain, model.Forward(batch.tokens, batch.positions, attention)));
  ASSERT_EQ(own.taken_TLK.numel(), 40 * model.config().route_size());
  if (model.config().expert_layers() == 0) return;
  // The same, in another order: the same sum.
  Routing again;
  again.asked_TLK = own.taken_TLK.flip(2);
  EXPECT_TRUE(torch::allclose(run(again), plain, 0, 1e-12));
  EXPECT_EQ(again.replayed, 40 * model.config().expert_layers());
  EXPECT_EQ(again.differing, 0);
  Routing forced;
  forced.asked_TLK = torch::arange(model.config().experts_per_token)
                         .to(at::kByte)
                         .expand_as(own.taken_TLK)
                         .clone();
  forced.asked_TLK.narrow(0, 0, 10).fill_(int64_t{kNoRoute});
  const at::Tensor other = run(forced);
  EXPECT_TRUE(torch::equal(forced.taken_TLK.narrow(0, 10, 30), forced.asked_TLK.narrow(0, 10, 30)));
  EXPECT_TRUE(torch::equal(forced.taken_TLK.narrow(0, 0, 6), own.taken_TLK.narrow(0, 0, 6)));
  EXPECT_TRUE(torch::allclose(other.narrow(0, 0, 6), plain.narrow(0, 0, 6), 0, 1e-12));
  EXPECT_FALSE(torch::allclose(other, plain, 0, 1e-3));
  EXPECT_EQ(forced.replayed, 30 * model.config().expert_layers());
  EXPECT_GT(forced.differing, 5);
  EXPECT_LT(forced.differing, forced.replayed);
}

// The multi-token-prediction head against plain operators; nothing else learns from it.
TEST(MtpGradients, MatchReferenceAutogradAndReachTheHeadAlone) {
  const Batch batch;
  nlohmann::json json = Config("qwen2");
  json["model_type"] = "mimo";
  json["num_nextn_predict_layers"] = 1;
  Transformer model(*ParseModelConfig(json), at::kCPU, at::kDouble);
  model.InitRandom(3);
  RandomiseAll(model);
  const ModelConfig& c = model.config();
  PackedAttention attention(batch.offsets);
  const at::Tensor hidden = model.Forward(batch.tokens, batch.positions, attention);
  const at::Tensor next = batch.tokens.roll(-1), weights = torch::randn({40, 24}, torch::kDouble);
  const at::Tensor foreseen = model.MtpForward(hidden, next, batch.positions, attention);
  std::map<std::string, at::Tensor> w;
  std::vector<at::Tensor> head;
  for (auto& [name, tensor] : model.NamedWeights()) {
    w[name] = tensor;
    if (name.find("mtp_layers") != std::string::npos) head.push_back(tensor);
  }
  EXPECT_EQ(head.size(), 12u + 4);
  const auto grads = torch::autograd::grad({(foreseen * weights).sum()}, Parameters(model), {},
                                           /*retain_graph=*/true, false, /*allow_unused=*/true);

  const std::string p = "model.mtp_layers.0.";
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    at::Tensor y = torch::matmul(x, w.at(p + name + ".weight").t());
    return w.contains(p + name + ".bias") ? y + w.at(p + name + ".bias") : y;
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return RmsNormAten(x, w.at(p + name + ".weight"), c.rms_norm_eps);
  };
  const RopeRows rope = RopeTable(c, at::kCPU, at::kDouble).For(batch.positions, attention);
  const auto turn = [&](const at::Tensor& x) {
    const auto cos = rope.cos_PH.index_select(0, rope.index_T).unsqueeze(1);
    const auto sin = rope.sin_PH.index_select(0, rope.index_T).unsqueeze(1);
    const auto halves = x.chunk(2, -1);
    return torch::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
  };
  at::Tensor x =
      linear(torch::cat({norm(hidden.detach(), "hidden_layernorm"),
                         norm(w.at("model.embed_tokens.weight").detach().index_select(0, next),
                              "token_layernorm")},
                        1),
             "input_proj");
  const at::Tensor y = norm(x, "input_layernorm");
  const auto heads = [&](const char* name) {
    return linear(y, std::string("self_attn.") + name).unflatten(1, {-1, c.head_dim});
  };
  MaskedAttention masked(batch.offsets);
  x = x + linear(masked
                     .Run(0, turn(heads("q_proj")), turn(heads("k_proj")), heads("v_proj"),
                          1 / std::sqrt(6.0), 0)
                     .flatten(1),
                 "self_attn.o_proj");
  const at::Tensor z = norm(x, "post_attention_layernorm");
  x = x + linear(at::silu(linear(z, "mlp.gate_proj")) * linear(z, "mlp.up_proj"), "mlp.down_proj");
  const at::Tensor reference = norm(x, "final_layernorm");
  EXPECT_TRUE(torch::allclose(foreseen, reference, 1e-10, 1e-10));
  const auto expected = torch::autograd::grad({(reference * weights).sum()}, head);
  size_t of_head = 0;
  const auto names = model.NamedWeights();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].first.find("mtp_layers") == std::string::npos) {
      EXPECT_FALSE(grads[i].defined()) << names[i].first;
      continue;
    }
    const at::Tensor& want = expected[of_head++];
    const double size = want.abs().max().item<double>();
    EXPECT_LT((grads[i] - want).abs().max().item<double>(), 1e-9 * size + 1e-10) << names[i].first;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Gradients,
                         ::testing::Values("llama", "mistral", "qwen2", "qwen3", "layers",
                                           "qwen3_moe", "mixtral"),
                         [](const auto& info) { return std::string(info.param); });
INSTANTIATE_TEST_SUITE_P(Families, LayerGradients,
                         ::testing::Values("llama", "mistral", "qwen2", "qwen3", "layers"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tramontane
