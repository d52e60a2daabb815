// How a step's samples become gradients and updates: microbatches leave the gradient equal,
// minibatches are steps of their own, and the anchor of the ratio is the policy before the first of
// them.
#include <gtest/gtest.h>

#include <algorithm>

#include "learner_fixture.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/step_inputs.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::Sampler;
using testing::TinyModel;
using testing::TinyRun;

// The step's gradient, its rows dealt out to so many microbatches.
at::Tensor GradientIn(int microbatches, const AlgorithmConfig& algorithm,
                      const std::vector<Group>& groups) {
  auto model = TinyModel(1, at::kDouble), reference = TinyModel(2, at::kDouble);
  std::vector<at::Tensor> parameters = model->parameters();
  for (at::Tensor& parameter : parameters) parameter.set_requires_grad(true);
  const CollectedRows collected = CollectRows(groups).value();
  const AdvantageInput input = MakeAdvantageInput(collected.rows, 1);
  const AdvantageResult advantages = ComputeAdvantages(input, algorithm).value();
  StepRows rows;
  rows.rows = collected.rows;
  rows.advantage = advantages.advantage;
  rows.token_weight = TokenWeights(input.group, input.tokens, advantages.kept,
                                   algorithm.aggregation, algorithm.conventions);
  rows.positive_weight = PositiveTokenWeights(input.correct, input.tokens, advantages.kept);
  std::vector<std::vector<int32_t>> parts(static_cast<size_t>(microbatches));
  size_t next = 0;
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    if (advantages.kept[i]) parts[next++ % parts.size()].push_back(static_cast<int32_t>(i));
  }
  const GradientHooks hooks(parameters);
  FlatTensor gradient = MakeFlatLike(parameters);
  const auto backward = [&](const at::Tensor& loss) {
    hooks.Backward(loss, [&](size_t i, const at::Tensor& part) { gradient.views[i].add_(part); });
  };
  for (const std::vector<int32_t>& part : parts) {
    MicrobatchOutput output;
    const absl::Status status =
        ComputeMicrobatch(*model, rows, part,
                          {.algorithm = algorithm, .reference = reference.get(), .version = 0},
                          backward, output);
    EXPECT_TRUE(status.ok()) << status;
  }
  return gradient.flat;
}

TEST(UpdatesTest, OneThreeOrSevenMicrobatchesLeaveTheGradientEqual) {
  auto sampled_by = TinyModel(1);
  Sampler sampler(*sampled_by, 7);
  std::vector<Group> groups = sampler.Groups(6, 0);
  for (Group& group : groups) {
    for (Rollout& rollout : group.rollouts) {
      rollout.verdict.correct = *rollout.verdict.score > 0;
      for (float& logprob : rollout.logprobs)
        logprob += 0.05f * static_cast<float>(rollout.sample_index - 4);
    }
  }
  groups[1].rollouts[4].injected = {{0, 1}};
  for (
      const char* algorithm :
      {R"({})", R"({"aggregation": {"mode": "token_mean", "scope": "group"}})",
       R"({"aggregation": {"mode": "seq_mean_token_mean"}, "kl": {"kind": "k3", "coefficient": 0.1}})",
       R"({"aggregation": {"mode": "seq_mean_token_sum"}, "objective": {"ratio": "sequence"}})",
       R"({"kl": {"kind": "full", "coefficient": 0.1}, "entropy": {"kind": "fixed", "coefficient": 0.01},
               "auxiliary": {"positive_nll": 0.1}})",
       R"({"objective": {"kind": "cispo"}, "aggregation": {"mode": "token_sum_const", "constant": 77}})"}) {
    SCOPED_TRACE(algorithm);
    const AlgorithmConfig knobs = AlgorithmFromJson(Json::parse(algorithm)).value();
    const at::Tensor whole = GradientIn(1, knobs, groups);
    const double norm = whole.norm().item<double>();
    ASSERT_GT(norm, 1e-4);
    for (int parts : {3, 7}) {
      EXPECT_LE((GradientIn(parts, knobs, groups) - whole).norm().item<double>(), 1e-6 * norm)
          << parts;
    }
  }
}

RunConfig UpdatesRun(int updates, const std::string& anchor) {
  RunConfig config = TinyRun();
  config.algorithm.correction.anchor = anchor;
  config.trainer.updates_per_step = updates;
  return config;
}

struct Updated {
  at::Tensor weights;
  StepReport report;
};

Updated StepOnce(const RunConfig& config, const std::vector<Group>& groups) {
  auto model = TinyModel(1, at::kDouble);
  MetricsRegistry metrics;
  auto learner = Learner::Create(config, model, metrics).value();
  Updated updated;
  updated.report = learner->Step(groups, 1).value();
  updated.weights = Flat(*model);
  return updated;
}

std::vector<Group> SixGroups() {
  auto model = TinyModel(1);
  return Sampler(*model, 7).Groups(6, 0);
}

TEST(UpdatesTest, EachMinibatchIsAStepOfItsOwn) {
  const std::vector<Group> groups = SixGroups();
  const Updated at_once = StepOnce(UpdatesRun(3, "behaviour"), groups);
  auto model = TinyModel(1, at::kDouble);
  MetricsRegistry metrics;
  auto learner = Learner::Create(UpdatesRun(1, "behaviour"), model, metrics).value();
  double loss = 0;
  for (size_t m = 0; m < 3; ++m)
    loss += learner->Step({groups[m], groups[m + 3]}, 1).value().loss / 3;
  EXPECT_LE((Flat(*model) - at_once.weights).abs().max().item<double>(), 1e-12);
  EXPECT_NEAR(at_once.report.loss, loss, 1e-12);
  EXPECT_EQ(at_once.report.metrics.at("updates"), 3);
  // Another number of updates is another result.
  EXPECT_GT((StepOnce(UpdatesRun(1, "behaviour"), groups).weights - at_once.weights)
                .abs()
                .max()
                .item<double>(),
            1e-4);
}

TEST(UpdatesTest, TheRecomputedAnchorIsThePolicyBeforeTheFirstUpdate) {
  const std::vector<Group> groups = SixGroups();
  const Updated one = StepOnce(UpdatesRun(1, "recomputed"), groups);
  EXPECT_EQ(one.report.metrics.at("ratio_max"), 1);
  const Updated several = StepOnce(UpdatesRun(3, "recomputed"), groups);
  EXPECT_GT(several.report.metrics.at("ratio_max"), 1.05);
  EXPECT_GT(several.report.metrics.at("clip_low") + several.report.metrics.at("clip_high"), 0);
  // The samples are of that very policy, so either anchor is the same up to float32 of the stored
  // numbers.
  const Updated behaviour = StepOnce(UpdatesRun(3, "behaviour"), groups);
  EXPECT_LE((several.weights - behaviour.weights).abs().max().item<double>(), 1e-3);
  EXPECT_NEAR(several.report.metrics.at("ratio_mean"), behaviour.report.metrics.at("ratio_mean"),
              1e-4);
  // Tokens of later minibatches were not compared with weights that did not sample them.
  EXPECT_LE(several.report.logprob_gap_max, 1e-4);
  EXPECT_LT(several.report.logprob_gap_tokens, one.report.logprob_gap_tokens);
}

TEST(UpdatesTest, MinibatchesWithoutTokensAreLeftOut) {
  std::vector<Group> groups = SixGroups();
  for (size_t g : {1, 4}) {
    for (Rollout& rollout : groups[g].rollouts) rollout.verdict.score = 1.0;  // nothing to learn
  }
  const Updated updated = StepOnce(UpdatesRun(3, "behaviour"), groups);
  EXPECT_EQ(updated.report.metrics.at("updates"), 2);
  EXPECT_FALSE(updated.report.skipped);
  for (Group& group : groups) {
    for (Rollout& rollout : group.rollouts) rollout.verdict.score = 1.0;
  }
  const Updated nothing = StepOnce(UpdatesRun(3, "behaviour"), groups);
  EXPECT_TRUE(nothing.report.skipped);
  EXPECT_FALSE(nothing.report.nonfinite);
}

}  // namespace
}  // namespace tramontane
