// Properties of the loss as a function of tensors: splitting, order, and estimators by enumeration.
#include "trainer/learner/policy_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/packing.h"

namespace tramontane {
namespace {

constexpr int64_t kVocab = 11, kHidden = 6;

// A float64 policy: embedding of the previous token → linear → log-softmax.
struct ToyPolicy {
  at::Tensor embedding_VH, head_VH;

  ToyPolicy() {
    embedding_VH = at::randn({kVocab, kHidden}, at::kDouble).set_requires_grad(true);
    head_VH = at::randn({kVocab, kHidden}, at::kDouble).set_requires_grad(true);
  }
  at::Tensor Logprob(const at::Tensor& previous_T, const at::Tensor& next_T) const {
    const at::Tensor logits_TV = at::matmul(embedding_VH.index_select(0, previous_T), head_VH.t());
    return logits_TV.log_softmax(-1).gather(1, next_T.unsqueeze(1)).squeeze(1);
  }
};

struct Sequence {
  std::vector<int64_t> tokens;  // the first is the prompt
  std::vector<double> behaviour;
};

struct Step {
  std::vector<Sequence> sequences;
  AdvantageInput input;
  std::vector<double> advantage, weight;
};

Step MakeStep(const AlgorithmConfig& algorithm, uint32_t seed) {
  std::mt19937 rng(seed);
  Step step;
  for (int i = 0; i < 24; ++i) {
    Sequence sequence;
    const int length = 1 + static_cast<int>(rng() % 9);
    for (int t = 0; t <= length; ++t) sequence.tokens.push_back(rng() % kVocab);
    for (int t = 0; t < length; ++t)
      sequence.behaviour.push_back(-2.4 + 0.3 * std::normal_distribution<>()(rng));
    step.input.group.push_back(i / 4);
    step.input.reward.push_back(static_cast<double>(rng() % 3));
    step.input.tokens.push_back(length);
    step.sequences.push_back(std::move(sequence));
  }
  AdvantageResult result = ComputeAdvantages(step.input, algorithm).value();
  step.weight = TokenWeights(step.input.group, step.input.tokens, result.kept,
                             algorithm.aggregation, algorithm.conventions);
  step.advantage = std::move(result.advantage);
  return step;
}

at::Tensor Longs(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }
at::Tensor Doubles(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

TokenBatch MakeBatch(const ToyPolicy& policy, const Step& step,
                     const std::vector<int32_t>& members) {
  std::vector<int64_t> previous, next, sequence;
  std::vector<double> behaviour, advantage, weight;
  for (size_t s = 0; s < members.size(); ++s) {
    const Sequence& source = step.sequences[members[s]];
    for (size_t t = 0; t < source.behaviour.size(); ++t) {
      previous.push_back(source.tokens[t]);
      next.push_back(source.tokens[t + 1]);
      sequence.push_back(static_cast<int64_t>(s));
      behaviour.push_back(source.behaviour[t]);
      advantage.push_back(step.advantage[members[s]]);
      weight.push_back(step.weight[members[s]]);
    }
  }
  TokenBatch batch;
  batch.logprob_T = policy.Logprob(Longs(previous), Longs(next));
  batch.proximal_T = batch.logprob_T.detach();
  batch.behaviour_T = Doubles(behaviour);
  batch.advantage_T = Doubles(advantage);
  batch.weight_T = Doubles(weight);
  batch.sequence_T = Longs(sequence);
  batch.sequences = static_cast<int64_t>(members.size());
  return batch;
}

struct LossAndGradient {
  double loss = 0;
  at::Tensor gradient;  // flat
};

LossAndGradient Compute(const ToyPolicy& policy, const Step& step, const AlgorithmConfig& algorithm,
                        const std::vector<std::vector<int32_t>>& microbatches) {
  LossAndGradient total;
  total.gradient = at::zeros({2 * kVocab * kHidden}, at::kDouble);
  for (const std::vector<int32_t>& members : microbatches) {
    const PolicyLossOutput output = PolicyLoss(MakeBatch(policy, step, members), algorithm).value();
    total.loss += output.loss.item<double>();
    const auto grads = torch::autograd::grad({output.loss}, {policy.embedding_VH, policy.head_VH});
    total.gradient.add_(at::cat({grads[0].flatten(), grads[1].flatten()}));
  }
  return total;
}

TEST(PolicyLossTest, MicrobatchesPackingAndOrderLeaveLossAndGradientEqual) {
  at::manual_seed(3);
  const ToyPolicy policy;
  for (const std::string mode :
       {"token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "token_sum_const"}) {
    for (const std::string scope : {"group", "global"}) {
      for (const std::string ratio : {"token", "sequence"}) {
        if (ratio == "sequence" && !mode.starts_with("seq_mean")) continue;
        AlgorithmConfig algorithm;
        algorithm.aggregation.mode = mode;
        algorithm.aggregation.scope = scope;
        algorithm.aggregation.constant = 77;
        algorithm.objective.ratio = ratio;
        SCOPED_TRACE(mode + " " + scope + " " + ratio);
        const Step step = MakeStep(algorithm, 5);
        std::vector<int32_t> all(step.sequences.size());
        std::iota(all.begin(), all.end(), 0);
        const LossAndGradient whole = Compute(policy, step, algorithm, {all});
        ASSERT_GT(whole.gradient.abs().max().item<double>(), 1e-3);

        std::vector<std::vector<std::vector<int32_t>>> splits;
        splits.push_back(PackSequences(step.input.tokens, 16, 2).microbatches);
        splits.push_back(PackSequences(step.input.tokens, 40, 1).microbatches);
        splits.emplace_back();
        for (int32_t i : all) splits.back().push_back({i});
        std::vector<int32_t> shuffled = all;
        std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(1));
        splits.push_back({shuffled});
        for (const auto& split : splits) {
          const LossAndGradient parts = Compute(policy, step, algorithm, split);
          EXPECT_NEAR(parts.loss, whole.loss, 1e-12 * std::abs(whole.loss) + 1e-15);
          const double error = (parts.gradient - whole.gradient).norm().item<double>();
          EXPECT_LE(error, 1e-12 * whole.gradient.norm().item<double>());
        }
      }
    }
  }
}

TEST(PolicyLossTest, K3AveragesToTheKlDivergenceOfTheWholeDistribution) {
  at::manual_seed(4);
  const at::Tensor log_p = at::randn({50}, at::kDouble).log_softmax(0);
  const at::Tensor log_q = at::randn({50}, at::kDouble).log_softmax(0);
  const double kl = (log_p.exp() * (log_p - log_q)).sum().item<double>();
  for (const std::string kind : {"k1", "k3"}) {
    EXPECT_NEAR((log_p.exp() * KlEstimate(log_p, log_q, kind, {})).sum().item<double>(), kl, 1e-12)
        << kind;
  }
}

TEST(PolicyLossTest, ExpectedGradientOfK2IsTheReverseKlAndOfK3TheForward) {
  at::manual_seed(5);
  const at::Tensor logits = at::randn({9}, at::kDouble).set_requires_grad(true);
  const at::Tensor log_q = at::randn({9}, at::kDouble).log_softmax(0);
  const auto gradient = [&](const at::Tensor& value) {
    return torch::autograd::grad({value}, {logits})[0];
  };
  const auto log_p = [&] { return logits.log_softmax(0); };
  // Σ_x π(x)·∇k(x): the sampling distribution is not differentiated through.
  const auto sampled = [&](const std::string& kind) {
    return gradient((log_p().exp().detach() * KlEstimate(log_p(), log_q, kind, {})).sum());
  };
  const at::Tensor reverse = gradient((log_p().exp() * (log_p() - log_q)).sum());
  const at::Tensor forward = gradient((log_q.exp() * (log_q - log_p())).sum());
  EXPECT_LE((sampled("k2") - reverse).abs().max().item<double>(), 1e-12);
  EXPECT_LE((sampled("k3") - forward).abs().max().item<double>(), 1e-12);
}

TEST(PolicyLossTest, CorrectionWeightsCarryNoGradient) {
  at::manual_seed(6);
  const ToyPolicy policy;
  AlgorithmConfig algorithm;
  algorithm.objective.kind = "pg";
  algorithm.objective.ratio = "none";
  algorithm.correction.kind = "truncate";
  algorithm.correction.cap = 100;
  const Step step = MakeStep(algorithm, 8);
  const TokenBatch batch = MakeBatch(policy, step, {0, 1, 2, 3, 4, 5, 6, 7});
  const at::Tensor loss = PolicyLoss(batch, algorithm).value().loss;
  const at::Tensor gradient = torch::autograd::grad({loss}, {batch.logprob_T})[0];
  const at::Tensor weight_T = (batch.logprob_T.detach() - batch.behaviour_T).exp();
  EXPECT_LE((gradient + weight_T * batch.advantage_T * batch.weight_T).abs().max().item<double>(),
            1e-14);
}

// One-token sequences of a tabular policy: `actions` were sampled, with these advantages.
TokenBatch Tabular(const at::Tensor& log_policy, const std::vector<int64_t>& actions,
                   const std::vector<double>& advantage, const at::Tensor& log_reference) {
  TokenBatch batch;
  batch.logprob_T = log_policy.index_select(0, Longs(actions));
  batch.reference_T = batch.behaviour_T = log_reference.index_select(0, Longs(actions));
  batch.advantage_T = Doubles(advantage);
  batch.sequences = static_cast<int64_t>(actions.size());
  batch.sequence_T = at::arange(batch.sequences, at::kLong);
  batch.weight_T =
      at::full({batch.sequences}, 1.0 / static_cast<double>(batch.sequences), at::kDouble);
  return batch;
}

TEST(PolicyLossTest, MirrorDescentWithItsExactNormaliserEndsAtTheTiltedPolicy) {
  AlgorithmConfig algorithm;
  algorithm.objective = {.kind = "opmd",
                         .ratio = "none",
                         .dual_clip = {},
                         .ratio_cap = {},
                         .tau = 0.5,
                         .log_z = "logsumexp"};
  algorithm.advantage.scale = "none";
  algorithm.filter.zero_variance = "keep";
  // From a uniform policy, each action once is its exact distribution.
  AdvantageInput input;
  input.reward = {1, 0.2, -0.5, 0, 0.7};
  input.group.assign(5, 0);
  input.tokens.assign(5, 1);
  const std::vector<double> advantage = ComputeAdvantages(input, algorithm).value().advantage;
  const at::Tensor log_uniform = at::full({5}, -std::log(5.0), at::kDouble);
  at::Tensor logits = at::zeros({5}, at::kDouble).set_requires_grad(true);
  for (int i = 0; i < 3000; ++i) {
    const at::Tensor loss =
        PolicyLoss(Tabular(logits.log_softmax(0), {0, 1, 2, 3, 4}, advantage, log_uniform),
                   algorithm)
            .value()
            .loss;
    const at::Tensor gradient = torch::autograd::grad({loss}, {logits})[0];
    const at::NoGradGuard no_grad;
    logits.sub_(2 * gradient);
  }
  const at::Tensor log_tilted = (Doubles(input.reward) / 0.5).log_softmax(0);
  const at::Tensor log_policy = logits.detach().log_softmax(0);
  EXPECT_LT((log_policy.exp() * (log_policy - log_tilted)).sum().item<double>(), 1e-6);
}

TEST(PolicyLossTest, TheMStepOfEmPolicyGradientIsStationaryAtTheRewardWeightedPolicy) {
  AlgorithmConfig algorithm;
  algorithm.objective.kind = "pg";
  algorithm.objective.ratio = "none";
  // π_old = (.1, .2, .3, .4) as ten samples, and what each action earns.
  const std::vector<int64_t> actions = {0, 1, 1, 2, 2, 2, 3, 3, 3, 3};
  const double reward[] = {1, 0.5, 0, 0.2};
  std::vector<double> advantage;
  for (int64_t action : actions) advantage.push_back(reward[action]);
  const at::Tensor weighted = Doubles({.1 * 1, .2 * .5, 1e-30, .4 * .2});
  const at::Tensor logits = weighted.log().set_requires_grad(true);
  const at::Tensor log_old = Doubles({.1, .2, .3, .4}).log();
  const at::Tensor loss =
      PolicyLoss(Tabular(logits.log_softmax(0), actions, advantage, log_old), algorithm)
          .value()
          .loss;
  EXPECT_LE(torch::autograd::grad({loss}, {logits})[0].abs().max().item<double>(), 1e-12);
  const at::Tensor policy = weighted / weighted.sum();
  EXPECT_NEAR((policy * Doubles({1, .5, 0, .2})).sum().item<double>(), 0.592857, 1e-6);
}

TEST(PolicyLossTest, TheClippedValueLossTakesTheWorseOfTheTwo) {
  const at::Tensor value = Doubles({1, 1, 1}), old = Doubles({0, 0.9, 3}),
                   target = Doubles({2, 2, 0});
  EXPECT_TRUE(at::allclose(ValueLoss(value, old, target, {}), Doubles({.5, .5, .5})));
  // Held within ±0.5 of the old: 0.5, 1 and 2.5.
  EXPECT_TRUE(at::allclose(ValueLoss(value, old, target, 0.5), Doubles({1.125, .5, 3.125})));
}

// An injected token's numbers may be anything: what they overflow to must not reach the gradient.
TEST(PolicyLossTest, MaskedTokensOfAnySizeLeaveTheGradientFinite) {
  for (const std::string kind : {"k1", "k2", "k3"}) {
    AlgorithmConfig algorithm;
    algorithm.advantage.baseline = "value";
    algorithm.kl = {.kind = kind, .coefficient = 0.1, .where = "loss"};
    algorithm.auxiliary.value_coefficient = 0.5;
    algorithm.auxiliary.value_clip = 0.2;
    TokenBatch batch;
    const auto floats = [](std::vector<float> values) { return at::tensor(values, at::kFloat); };
    batch.logprob_T = floats({-1, -300, -2}).set_requires_grad(true);
    batch.behaviour_T = floats({-1, 0, -2});
    batch.reference_T = floats({-1.5, 0, -2});
    batch.advantage_T = floats({1, 0, -1});
    batch.value_T = floats({0.1f, 1e30f, 0.3f}).set_requires_grad(true);
    batch.value_old_T = floats({0.1f, -1e30f, 0.3f});
    batch.value_target_T = floats({1, 0, 0});
    batch.weight_T = floats({0.5, 0, 0.5});
    batch.masked_T = at::tensor(std::vector<int>{0, 1, 0}) == 1;
    batch.sequence_T = Longs({0, 0, 0});
    batch.sequences = 1;
    const PolicyLossOutput output = PolicyLoss(batch, algorithm).value();
    const auto gradients = torch::autograd::grad({output.loss}, {batch.logprob_T, batch.value_T});
    for (const at::Tensor& gradient : gradients) {
      EXPECT_TRUE(at::isfinite(gradient).all().item<bool>()) << kind << gradient;
      EXPECT_EQ(gradient[1].item<float>(), 0) << kind;
    }
    EXPECT_TRUE(std::isfinite(output.loss.item<double>()));
  }
}

TEST(PolicyLossTest, SumsOfMicrobatchesAddUp) {
  at::manual_seed(7);
  const ToyPolicy policy;
  const AlgorithmConfig algorithm;
  const Step step = MakeStep(algorithm, 9);
  std::vector<int32_t> all(step.sequences.size());
  std::iota(all.begin(), all.end(), 0);
  const LossSums whole = PolicyLoss(MakeBatch(policy, step, all), algorithm).value().sums;
  LossSums parts;
  for (int32_t i : all) parts.Add(PolicyLoss(MakeBatch(policy, step, {i}), algorithm).value().sums);
  EXPECT_GT(whole.tokens, 0);
  EXPECT_EQ(parts.tokens, whole.tokens);
  EXPECT_EQ(parts.clipped_low, whole.clipped_low);
  EXPECT_EQ(parts.clipped_high, whole.clipped_high);
  EXPECT_DOUBLE_EQ(parts.ratio_max, whole.ratio_max);
  EXPECT_NEAR(parts.ratio, whole.ratio, 1e-10);
  EXPECT_NEAR(parts.negative_logprob, whole.negative_logprob, 1e-10);
}

}  // namespace
}  // namespace tramontane
