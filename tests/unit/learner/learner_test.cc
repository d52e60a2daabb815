#include "trainer/learner/learner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/record_io.h"
#include "learner_fixture.h"
#include "model/score.h"

namespace tramontane {
namespace {

using testing::Batches;
using testing::Flat;
using ::testing::HasSubstr;
using testing::MeanReward;
using testing::Sampler;
using testing::TinyModel;
using testing::TinyRun;

struct Trained {
  at::Tensor weights;
  std::vector<double> losses;
};

// Steps over the same recorded groups, so that only the learner differs.
Trained Train(const RunConfig& config, const std::vector<std::vector<Group>>& batches,
              at::ScalarType dtype) {
  auto model = TinyModel(1, dtype);
  MetricsRegistry metrics;
  auto learner = Learner::Create(config, model, metrics).value();
  Trained trained;
  for (size_t i = 0; i < batches.size(); ++i) {
    trained.losses.push_back(learner->Step(batches[i], static_cast<int64_t>(i) + 1).value().loss);
  }
  trained.weights = Flat(*model);
  return trained;
}

TEST(LearnerTest, MicrobatchesAndThreadsLeaveTheUpdateEqual) {
  const auto batches = Batches(2, 6);
  RunConfig config = TinyRun();
  config.trainer.microbatch_tokens = 100000;
  const Trained whole = Train(config, batches, at::kDouble);
  for (const int microbatch_tokens : {1, 16, 64}) {
    for (const int threads : {1, 2, 3}) {
      config.trainer.microbatch_tokens = microbatch_tokens;
      config.trainer.threads = threads;
      const Trained parts = Train(config, batches, at::kDouble);
      for (size_t i = 0; i < batches.size(); ++i)
        EXPECT_NEAR(parts.losses[i], whole.losses[i], 1e-12);
      const double error = (parts.weights - whole.weights).norm().item<double>();
      EXPECT_LE(error, 1e-6 * whole.weights.norm().item<double>())
          << microbatch_tokens << " " << threads;
    }
  }
}

TEST(LearnerTest, TheSameBatchesGiveTheSameBits) {
  const auto batches = Batches(4, 6);
  for (const int threads : {1, 2}) {
    RunConfig config = TinyRun();
    config.trainer.threads = threads;
    const Trained first = Train(config, batches, at::kFloat),
                  second = Train(config, batches, at::kFloat);
    EXPECT_EQ(first.losses, second.losses);
    EXPECT_TRUE(at::equal(first.weights, second.weights));
  }
}

// What thinking control put in comes back from the queue and the journal as bytes, and nothing
// about it but its place in the context reaches the update.
TEST(LearnerTest, InjectedTokensAreContextAndNothingElse) {
  const auto batches = Batches(1, 6);
  const auto with = [&](float behaviour, bool marked) {
    std::vector<Group> groups;
    for (Group group : batches[0]) {
      for (Rollout& rollout : group.rollouts) {
        rollout.tokens.insert(rollout.tokens.begin(), {7, 8});
        rollout.logprobs.insert(rollout.logprobs.begin(), {behaviour, behaviour});
        rollout.spans[0].count += 2;
        if (marked) rollout.injected = {{0, 2}};
      }
      groups.push_back(DecodeGroup(EncodeGroup(group)).value());
    }
    return groups;
  };
  RunConfig config = TinyRun();
  config.algorithm.auxiliary.positive_nll = 0.1;
  const Trained zero = Train(config, {with(0, true)}, at::kDouble);
  const Trained other = Train(config, {with(-40, true)}, at::kDouble);
  EXPECT_EQ(zero.losses, other.losses);
  EXPECT_TRUE(at::equal(zero.weights, other.weights));
  const Trained unmarked = Train(config, {with(-40, false)}, at::kDouble);
  EXPECT_FALSE(at::equal(zero.weights, unmarked.weights));

  // The same tokens as part of the prompt are the same step.
  std::vector<Group> as_prompt;
  for (Group group : batches[0]) {
    group.task.row.prompt_tokens.insert(group.task.row.prompt_tokens.end(), {7, 8});
    as_prompt.push_back(std::move(group));
  }
  const Trained prompted = Train(config, {as_prompt}, at::kDouble);
  EXPECT_NEAR(zero.losses[0], prompted.losses[0], 1e-12);
  EXPECT_LE((zero.weights - prompted.weights).abs().max().item<double>(), 1e-9);

  auto model = TinyModel(1);
  MetricsRegistry metrics;
  const StepReport report =
      Learner::Create(config, model, metrics).value()->Step(with(0, true), 1).value();
  int64_t sampled = 0;
  for (const Group& group : batches[0])
    for (const Rollout& rollout : group.rollouts) sampled += rollout.tokens.size();
  EXPECT_LE(report.response_tokens, sampled);
  EXPECT_LE(report.logprob_gap_tokens, sampled);
}

TEST(LearnerTest, OrderOfGroupsDoesNotMatter) {
  auto batches = Batches(1, 6);
  const Trained forward = Train(TinyRun(), batches, at::kDouble);
  std::reverse(batches[0].begin(), batches[0].end());
  const Trained backward = Train(TinyRun(), batches, at::kDouble);
  EXPECT_NEAR(forward.losses[0], backward.losses[0], 1e-12);
  EXPECT_LE((forward.weights - backward.weights).abs().max().item<double>(), 1e-9);
}

TEST(LearnerTest, TheRewardRisesOnATrivialTask) {
  auto model = TinyModel(2);
  MetricsRegistry metrics;
  RunConfig config = TinyRun();
  config.trainer.threads = 2;
  auto learner = Learner::Create(config, model, metrics).value();
  Sampler sampler(*model, 3);
  const double before = MeanReward(sampler.Groups(16, 0));
  for (int64_t step = 1; step <= 40; ++step) {
    const StepReport report = learner->Step(sampler.Groups(4, step - 1), step).value();
    // Sampled a moment ago by the same weights: the ratio is 1 and nothing is clipped.
    if (report.skipped) continue;
    EXPECT_EQ(report.logprob_gap_tokens, report.response_tokens);
    EXPECT_LE(report.logprob_gap_max, 1e-4);
    EXPECT_NEAR(report.metrics.at("ratio_max"), 1, 1e-4);
    EXPECT_EQ(report.metrics.at("clip_low") + report.metrics.at("clip_high"), 0);
  }
  const double after = MeanReward(sampler.Groups(16, 40));
  EXPECT_LT(before, 0.3);
  EXPECT_GT(after, 0.9);
}

TEST(LearnerTest, EveryKindOfObjectiveLearnsTheTrivialTask) {
  const auto run = [](const std::string& algorithm) {
    auto model = TinyModel(2);
    MetricsRegistry metrics;
    RunConfig config = TinyRun();
    config.algorithm = AlgorithmFromJson(Json::parse(algorithm)).value();
    auto learner = Learner::Create(config, model, metrics).value();
    Sampler sampler(*model, 3);
    for (int64_t step = 1; step <= 30; ++step) {
      EXPECT_TRUE(learner->Step(sampler.Groups(4, step - 1), step).ok());
    }
    return MeanReward(sampler.Groups(16, 30));
  };
  EXPECT_GT(run(R"({"objective": {"kind": "pg"}})"), 0.8);
  EXPECT_GT(run(R"({"objective": {"kind": "cispo", "clip_high": 4}})"), 0.8);
  EXPECT_GT(
      run(R"({"objective": {"ratio": "sequence"}, "aggregation": {"mode": "seq_mean_token_mean"},
                    "advantage": {"scale": "group_std"}})"),
      0.8);
  EXPECT_GT(run(R"({"advantage": {"baseline": "none", "scale": "none", "sign": "positive_only"},
                    "objective": {"kind": "nll", "ratio": "none"}, "filter": {"zero_variance": "keep"}})"),
            0.5);
  EXPECT_GT(run(R"({"correction": {"kind": "truncate", "cap": 2, "anchor": "recomputed"},
                    "entropy": {"kind": "fixed", "coefficient": 1e-3}, "auxiliary": {"positive_nll": 0.05}})"),
            0.8);
}

TEST(LearnerTest, SftLossFallsToTheEntropyOfItsTargets) {
  auto model = TinyModel(4);
  MetricsRegistry metrics;
  RunConfig config = TinyRun();
  config.sft.learning_rate = 1e-2;
  config.sft.steps = 60;
  config.sft.warmup_steps = 5;
  auto learner = Learner::Create(config, model, metrics).value();
  std::vector<SftExample> examples;
  for (int32_t i = 1; i < 8; ++i) examples.push_back({{i, 9}, {i, i + 1, 0}});
  const double first = learner->SftStep(examples, 1).value().loss;
  double last = first;
  for (int64_t step = 2; step <= 60; ++step) last = learner->SftStep(examples, step).value().loss;
  EXPECT_GT(first, 1.5);
  EXPECT_LT(last, 0.05);
}

TEST(LearnerTest, SftLossIsTheMeanOverCompletionTokens) {
  auto model = TinyModel(4);
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), model, metrics).value();
  const std::vector<SftExample> examples = {{{1, 2}, {3, 4, 0}}, {{5}, {6}}};
  const std::vector<float> first = ScoreTokens(*model, {1, 2, 3, 4, 0}),
                           second = ScoreTokens(*model, {5, 6});
  const double expected = -(first[1] + first[2] + first[3] + second[0]) / 4;
  EXPECT_NEAR(learner->SftStep(examples, 1).value().loss, expected, 1e-5);
}

TEST(LearnerTest, ANonFiniteStepChangesNothingAndSaysSo) {
  auto model = TinyModel(1);
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), model, metrics).value();
  std::vector<Group> groups = Sampler(*model, 7).Groups(4, 0);
  at::Tensor victim = model->parameters()[0];
  const at::Tensor clean = Flat(*model);
  const float saved = victim.flatten()[0].item<float>();
  {
    const at::NoGradGuard no_grad;
    victim.flatten()[0] = std::numeric_limits<float>::quiet_NaN();
  }
  groups[0].task.row.prompt_tokens[0] = 0;  // the poisoned embedding row
  const StepReport report = learner->Step(groups, 1).value();
  EXPECT_TRUE(report.skipped && report.nonfinite);
  EXPECT_THAT(report.skip_reason, HasSubstr("not finite"));
  {
    const at::NoGradGuard no_grad;
    victim.flatten()[0] = saved;
  }
  EXPECT_TRUE(at::equal(Flat(*model), clean));
  EXPECT_THAT(metrics.Render(), HasSubstr("tramontane_trainer_nonfinite_steps_total 1"));
  EXPECT_FALSE(learner->Step(groups, 2).value().skipped);
}

TEST(LearnerTest, NothingToLearnFromIsSkippedButNotNonFinite) {
  auto model = TinyModel(1);
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), model, metrics).value();
  std::vector<Group> groups = Sampler(*model, 7).Groups(2, 0);
  for (Group& group : groups) {
    for (Rollout& rollout : group.rollouts) rollout.verdict.score = 1.0;
  }
  StepReport report = learner->Step(groups, 1).value();
  EXPECT_TRUE(report.skipped);
  EXPECT_FALSE(report.nonfinite);
  EXPECT_EQ(report.metrics.at("zero_variance_groups"), 2);
  report = learner->Step({}, 2).value();
  EXPECT_TRUE(report.skipped);
}

TEST(LearnerTest, InfrastructureFailuresAreAsIfNeverSampled) {
  const std::vector<Group> clean = Batches(1, 6)[0];
  std::vector<Group> dirty = clean;
  Rollout failed = clean[0].rollouts[0];
  failed.verdict.status = VerdictStatus::kInfraFailure;
  failed.verdict.score.reset();
  dirty[0].rollouts.push_back(failed);
  failed.verdict.status = VerdictStatus::kTimeout;
  dirty[2].rollouts.insert(dirty[2].rollouts.begin(), failed);
  const Trained a = Train(TinyRun(), {clean}, at::kDouble),
                b = Train(TinyRun(), {dirty}, at::kDouble);
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_TRUE(at::equal(a.weights, b.weights));
}

TEST(LearnerTest, GapIsMeasuredOnTokensOfTheHeldVersionOnly) {
  auto model = TinyModel(1);
  MetricsRegistry metrics;
  RunConfig config = TinyRun();
  config.trainer.microbatch_tokens = 16;  // several
  auto learner = Learner::Create(config, model, metrics).value();
  std::vector<Group> groups = Sampler(*model, 7).Groups(2, 4);
  int64_t whole = 0;
  for (Group& group : groups) {
    for (Rollout& rollout : group.rollouts) whole += static_cast<int64_t>(rollout.tokens.size());
  }
  // One rollout older, with nonsense log-probabilities; one that changed version on its way.
  Rollout& old = groups[0].rollouts[4];
  old.spans[0].version = 3;
  for (float& logprob : old.logprobs) logprob -= 0.5f;
  Rollout& mixed = groups[1].rollouts[3];
  const auto count = static_cast<int32_t>(mixed.tokens.size());
  ASSERT_GE(count, 2);
  mixed.spans = {{3, 1}, {4, count - 1}};
  const StepReport report = learner->Step(groups, 5).value();
  ASSERT_FALSE(report.skipped);
  EXPECT_EQ(report.logprob_gap_tokens, whole - static_cast<int64_t>(old.tokens.size()) - count);
  EXPECT_LE(report.logprob_gap_max, 1e-4);
  EXPECT_EQ(report.metrics.at("logprob_gap_stale_kv_tokens"), count - 1);
  // Over all tokens, whatever their version: the ratio is √e for the old ones and 1 for the others.
  ASSERT_GE(report.metrics.at("microbatches"), 2);
  const double all = static_cast<double>(whole), off = static_cast<double>(old.tokens.size());
  const double ratio = std::exp(0.5), squares = all - off + off * ratio * ratio;
  EXPECT_NEAR(report.metrics.at("mismatch_kl"), off * (ratio - 1.5) / all, 1e-4);
  EXPECT_NEAR(report.metrics.at("importance_ess_ratio"),
              std::pow(all - off + off * ratio, 2) / (all * squares), 1e-4);
  EXPECT_NEAR(report.metrics.at("importance_chi2"), squares / all - 1, 1e-3);
  EXPECT_THAT(metrics.Render(), HasSubstr("tramontane_trainer_logprob_gap"));
}

TEST(LearnerTest, SnapshotCarriesVerifiedPayloadAndProbe) {
  auto model = TinyModel(1);
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), model, metrics).value();
  std::vector<char> payload;
  const WeightManifest manifest = learner->Snapshot(17, payload);
  EXPECT_EQ(manifest.version, 17);
  EXPECT_TRUE(CheckManifest(manifest).ok());
  EXPECT_TRUE(VerifyPayload(manifest, payload.data(), payload.size()).ok());
  ASSERT_EQ(manifest.probe_tokens.size(), 24u);
  EXPECT_EQ(manifest.probe_logprobs, ScoreTokens(*model, manifest.probe_tokens));
  EXPECT_EQ(manifest.probe_logprobs.size(), 23u);
}

TEST(LearnerTest, WhatNoRunCanDoIsRefusedByName) {
  MetricsRegistry metrics;
  RunConfig config = TinyRun();
  config.algorithm.kl.kind = "k3";
  config.algorithm.kl.where = "reward";
  EXPECT_THAT(std::string(Learner::Create(config, TinyModel(1), metrics).status().message()),
              HasSubstr("filter_sees_the_final_reward"));
  config = TinyRun();
  config.algorithm.advantage.baseline = "value";
  EXPECT_THAT(std::string(Learner::Create(config, TinyModel(1), metrics).status().message()),
              HasSubstr("critic_learns"));
}

TEST(LearnerTest, AGapAboveTheAlarmIsCounted) {
  auto model = TinyModel(1);
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), model, metrics).value();
  std::vector<Group> groups = Sampler(*model, 7).Groups(4, 0);
  EXPECT_FALSE(learner->Step(groups, 1).value().metrics.contains("logprob_gap_alarm"));
  groups = Sampler(*model, 8).Groups(4, 1);
  groups[0].rollouts[4].logprobs[0] -= 0.01f;  // ten times the alarm, on one token
  EXPECT_EQ(learner->Step(groups, 2).value().metrics.at("logprob_gap_alarm"), 1);
  EXPECT_THAT(metrics.Render(), HasSubstr("tramontane_trainer_logprob_gap_alarms_total 1"));
}

TEST(LearnerTest, SftCarriesNothingOfTheRlStage) {
  MetricsRegistry metrics;
  RunConfig config = TinyRun();
  config.algorithm.advantage.baseline = "value";
  config.algorithm.kl = {.kind = "k3", .coefficient = 0.1};
  auto learner = Learner::CreateForSft(config, TinyModel(1), metrics);
  ASSERT_TRUE(learner.ok()) << learner.status();
  EXPECT_TRUE((*learner)->SftStep({{{1, 2}, {3, 4, 0}}}, 1).ok());
  EXPECT_THAT(metrics.Render(), HasSubstr("tramontane_trainer_reference_bytes 0"));
}

TEST(LearnerTest, TokensOutsideTheVocabularyAreAnErrorNotACrash) {
  auto model = TinyModel(1);
  MetricsRegistry metrics;
  auto learner = Learner::Create(TinyRun(), model, metrics).value();
  std::vector<Group> groups = Sampler(*model, 7).Groups(2, 0);
  groups[0].rollouts[0].tokens[0] = 99;
  const at::Tensor before = Flat(*model);
  EXPECT_EQ(learner->Step(groups, 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(at::equal(Flat(*model), before));
  EXPECT_FALSE(learner->Check(groups[0]).ok());
  EXPECT_TRUE(learner->Check(groups[1]).ok());
  groups[1].task.row.prompt_tokens[0] = 12;
  EXPECT_FALSE(learner->Check(groups[1]).ok());
}

}  // namespace
}  // namespace tramontane
