// trainer.share_prompts: what a group's samples begin with is computed once, and nothing else
// changes by it.
#include <gtest/gtest.h>

#include <algorithm>

#include "learner_fixture.h"
#include "trainer/learner/adamw.h"
#include "trainer/learner/advantage.h"
#include "trainer/learner/aggregation.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/microbatch.h"
#include "trainer/learner/packed_rows.h"
#include "trainer/learner/shared_inputs.h"
#include "trainer/learner/step_inputs.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::TinyModel;
using testing::TinyRun;

std::shared_ptr<Transformer> ModelOf(const char* fields, uint64_t seed) {
  Json json = TinyModel(1)->config().source;
  json.update(Json::parse(fields));
  auto model = std::make_shared<Transformer>(ParseModelConfig(json).value(), at::kCPU, at::kDouble);
  model->InitRandom(seed);
  return model;
}

// Of 1, 2, 3 and 8 samples with prompts of 1 to 4 tokens and responses of 1 to 9: some begin
// alike, one is the beginning of another, one has no token to learn from, some have gaps.
std::vector<Group> UnlikeGroups() {
  std::mt19937 random(3);
  std::vector<Group> groups;
  for (const int samples : {1, 2, 3, 8}) {
    Group group;
    group.task.gid = std::to_string(samples);
    for (size_t t = 0; t <= groups.size(); ++t)
      group.task.row.prompt_tokens.push_back(static_cast<int32_t>(random() % 12));
    for (int i = 0; i < samples; ++i) {
      Rollout rollout;
      rollout.sample_index = i;
      if (samples == 3) rollout.tokens = {5, 6};
      const int more = samples == 3 ? i : 1 + (4 * i) % 9;
      for (int t = 0; t < more; ++t) rollout.tokens.push_back(static_cast<int32_t>(random() % 12));
      for (size_t t = 0; t < rollout.tokens.size(); ++t)
        rollout.logprobs.push_back(-2.4f - 0.1f * static_cast<float>(random() % 5));
      const auto length = static_cast<int32_t>(rollout.tokens.size());
      rollout.spans = {{0, length}};
      if (samples == 8 && length > 4) rollout.injected = {{1, 2}};
      if (samples == 8 && i == 5) rollout.injected = {{0, length}};
      rollout.verdict.status = VerdictStatus::kScored;
      rollout.verdict.score = static_cast<double>(i % 3);
      group.rollouts.push_back(std::move(rollout));
    }
    groups.push_back(std::move(group));
  }
  groups[1].task.sampling.temperature = 0.7;
  return groups;
}

struct Learnt {
  at::Tensor gradient;
  MicrobatchOutput output;
  int64_t packed = 0, inputs = 0;
};

struct Terms {
  const char* algorithm = R"({"filter": {"zero_variance": "keep"}})";
  double mtp_weight = 0;
  bool recompute = false;
};

// The step's gradient, its rows dealt out in order to so many microbatches.
Learnt Learn(const char* fields, const Terms& terms, bool share, size_t microbatches) {
  auto model = ModelOf(fields, 1), reference = ModelOf(fields, 2);
  model->set_recompute_layers(terms.recompute);
  std::vector<at::Tensor> parameters = model->parameters();
  for (at::Tensor& parameter : parameters) parameter.set_requires_grad(true);
  const AlgorithmConfig algorithm = AlgorithmFromJson(Json::parse(terms.algorithm)).value();
  const std::vector<Group> groups = UnlikeGroups();
  CollectedRows collected = CollectRows(groups).value();
  if (share) ShareInputs({.next = terms.mtp_weight > 0}, collected.rows);
  const AdvantageInput input = MakeAdvantageInput(collected.rows, 1);
  const AdvantageResult advantages = ComputeAdvantages(input, algorithm).value();
  StepRows rows;
  rows.rows = collected.rows;
  rows.advantage = advantages.advantage;
  rows.token_weight = TokenWeights(input.group, input.tokens, advantages.kept,
                                   algorithm.aggregation, algorithm.conventions);
  std::vector<std::vector<int32_t>> parts(microbatches);
  for (size_t i = 0; i < rows.rows.size(); ++i)
    parts[i * microbatches / rows.rows.size()].push_back(static_cast<int32_t>(i));
  const GradientHooks hooks(parameters);
  FlatTensor gradient = MakeFlatLike(parameters);
  const auto backward = [&](const at::Tensor& loss) {
    hooks.Backward(loss, [&](size_t i, const at::Tensor& part) { gradient.views[i].add_(part); });
  };
  Learnt learnt;
  for (const std::vector<int32_t>& part : parts) {
    MicrobatchOutput output;
    const absl::Status status = ComputeMicrobatch(*model, rows, part,
                                                  {.algorithm = algorithm,
                                                   .reference = reference.get(),
                                                   .version = 0,
                                                   .mtp_weight = terms.mtp_weight},
                                                  backward, output);
    EXPECT_TRUE(status.ok()) << status;
    learnt.output.Add(output);
    learnt.packed += PackRows(rows.rows, part).inputs();
    for (int32_t i : part) learnt.inputs += rows.rows[i].input_tokens();
  }
  learnt.gradient = gradient.flat;
  return learnt;
}

void ExpectTheSame(const char* fields, const Terms& terms) {
  SCOPED_TRACE(fields);
  const Learnt apart = Learn(fields, terms, /*share=*/false, 1);
  EXPECT_EQ(apart.packed, apart.inputs);
  const double norm = apart.gradient.norm().item<double>();
  ASSERT_GT(norm, 1e-3);
  for (const size_t microbatches : {1, 3, 7}) {
    const Learnt shared = Learn(fields, terms, /*share=*/true, microbatches);
    EXPECT_EQ(shared.inputs, apart.inputs);
    EXPECT_LT(shared.packed, shared.inputs);
    EXPECT_LE((shared.gradient - apart.gradient).norm().item<double>(), 1e-9 * norm)
        << microbatches;
    const MicrobatchOutput &a = shared.output, &b = apart.output;
    EXPECT_NEAR(a.loss, b.loss, 1e-9 * std::abs(b.loss) + 1e-12);
    EXPECT_NEAR(a.mtp_loss, b.mtp_loss, 1e-9 * std::abs(b.mtp_loss));
    EXPECT_EQ(a.sums.tokens, b.sums.tokens);
    EXPECT_NEAR(a.sums.entropy, b.sums.entropy, 1e-9 * b.sums.tokens);
    EXPECT_NEAR(a.sums.negative_logprob, b.sums.negative_logprob, 1e-9 * b.sums.tokens);
    EXPECT_NEAR(a.sums.kl, b.sums.kl, 1e-9 * b.sums.tokens);
    EXPECT_EQ(a.gap.tokens, b.gap.tokens);
    EXPECT_NEAR(a.gap.max, b.gap.max, 1e-6);  // stored in float32
  }
}

const char* const kDense = "{}";
const char* const kWindow = R"({"model_type": "mistral", "sliding_window": 3})";
const char* const kExperts = R"({"model_type": "qwen3_moe", "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": true})";
const char* const kForesees = R"({"model_type": "mimo", "num_nextn_predict_layers": 1})";

TEST(SharePromptsTest, GradientsAndLossesStayTheSame) {
  ExpectTheSame(kDense, {});
  ExpectTheSame(kWindow, {});
  ExpectTheSame(kExperts, {});
}

TEST(SharePromptsTest, WithEveryKindOfTerm) {
  ExpectTheSame(kDense,
                {R"({"kl": {"kind": "k3", "coefficient": 0.1}, "filter": {"zero_variance": "keep"},
                             "entropy": {"kind": "fixed", "coefficient": 0.01}})"});
  ExpectTheSame(kDense, {R"({"kl": {"kind": "full", "coefficient": 0.1},
                             "objective": {"ratio": "sequence"}, "filter": {"zero_variance": "keep"}})"});
  ExpectTheSame(kDense, {.recompute = true});
  ExpectTheSame(kWindow, {.recompute = true});
}

TEST(SharePromptsTest, WithAHeadThatForeseesTheTokenAfterTheNext) {
  ExpectTheSame(kForesees, {.mtp_weight = 0.5});
}

// ---- the learner

struct Stepped {
  at::Tensor weights;
  StepReport first, last;
};

Stepped StepTwice(RunConfig config, bool share, const char* fields = kDense) {
  config.trainer.share_prompts = share;
  auto model = ModelOf(fields, 1);
  MetricsRegistry metrics;
  auto learner = Learner::Create(config, model, metrics).value();
  Stepped stepped;
  stepped.first = learner->Step(UnlikeGroups(), 1).value();
  stepped.last = learner->Step(UnlikeGroups(), 2).value();
  stepped.weights = Flat(*model);
  const std::string page = metrics.Render();
  const auto tokens = stepped.first.packed_tokens + stepped.last.packed_tokens;
  EXPECT_NE(page.find("tokens_total{kind=\"packed\"} " + std::to_string(tokens)), std::string::npos)
      << page;
  return stepped;
}

TEST(SharePromptsTest, ALearnersStepsAreTheSame) {
  for (
      const char* algorithm :
      {R"({"filter": {"zero_variance": "keep"}})",
       R"({"advantage": {"baseline": "value", "scale": "none"}, "auxiliary": {"value_coefficient": 1},
            "filter": {"zero_variance": "keep"}})",
       R"({"kl": {"kind": "k1", "coefficient": 0.1, "where": "reward"}, "correction": {"anchor": "recomputed"},
            "filter": {"zero_variance": "keep"}})"}) {
    SCOPED_TRACE(algorithm);
    RunConfig config = TinyRun();
    config.algorithm = AlgorithmFromJson(Json::parse(algorithm)).value();
    config.trainer.updates_per_step = 2;
    for (const int threads : {1, 2}) {
      config.trainer.threads = threads;
      config.trainer.microbatch_tokens = threads == 1 ? 1000 : 20;
      const Stepped apart = StepTwice(config, false), shared = StepTwice(config, true);
      EXPECT_LE((apart.weights - shared.weights).abs().max().item<double>(), 1e-7);
      EXPECT_NEAR(shared.first.loss, apart.first.loss, 1e-9);
      EXPECT_EQ(apart.first.packed_tokens, apart.first.input_tokens);
      EXPECT_EQ(shared.first.input_tokens, apart.first.input_tokens);
      EXPECT_LT(shared.first.packed_tokens, shared.first.input_tokens);
      EXPECT_LT(shared.first.metrics.at("model_flop"), apart.first.metrics.at("model_flop"));
    }
  }
}

TEST(SharePromptsTest, AGroupLargerThanAMicrobatchIsCutAndItsPromptComputedInEach) {
  RunConfig config = TinyRun();
  config.algorithm.filter.zero_variance = "keep";
  config.trainer.microbatch_tokens = 1000;
  const Stepped whole = StepTwice(config, true);
  config.trainer.microbatch_tokens = 16;
  const Stepped cut = StepTwice(config, true), apart = StepTwice(config, false);
  EXPECT_GT(cut.first.metrics.at("microbatches"), 4);
  EXPECT_GT(cut.first.packed_tokens, whole.first.packed_tokens);
  EXPECT_LT(cut.first.packed_tokens, cut.first.input_tokens);
  EXPECT_LE((apart.weights - cut.weights).abs().max().item<double>(), 1e-7);
}

// There a position's angles depend on the length of its sequence.
TEST(SharePromptsTest, DynamicallyScaledPositionsShareNothing) {
  const char* const dynamic = R"({"model_type": "llama", "max_position_embeddings": 6,
      "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}})";
  RunConfig config = TinyRun();
  config.algorithm.filter.zero_variance = "keep";
  const Stepped shared = StepTwice(config, true, dynamic),
                apart = StepTwice(config, false, dynamic);
  EXPECT_EQ(shared.first.packed_tokens, shared.first.input_tokens);
  EXPECT_TRUE(at::equal(shared.weights, apart.weights));
}

TEST(SharePromptsTest, BothHalvesOfAPairShareTheirPrompt) {
  std::vector<PreferencePair> pairs;
  for (int32_t i = 0; i < 4; ++i)
    pairs.push_back({{1, 2, i, 4, 5}, {6, 7, i}, {8, static_cast<int32_t>(i + 1)}});
  RunConfig config = TinyRun();
  config.run.kind = "dpo";
  std::vector<at::Tensor> weights;
  for (const bool share : {false, true}) {
    config.trainer.share_prompts = share;
    auto model = ModelOf(kDense, 1);
    MetricsRegistry metrics;
    auto learner = Learner::CreateForSft(config, model, metrics).value();
    const StepReport report = learner->DpoStep(pairs, 1).value();
    EXPECT_EQ(report.input_tokens, 4 * (7 + 6));
    EXPECT_EQ(report.packed_tokens, share ? 4 * (5 + 2 + 1) : 4 * (7 + 6));
    weights.push_back(Flat(*model));
  }
  EXPECT_LE((weights[0] - weights[1]).abs().max().item<double>(), 1e-7);
}

}  // namespace
}  // namespace tramontane
