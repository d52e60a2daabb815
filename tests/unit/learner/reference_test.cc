// KL in a run: what the reference is, when it changes, and that a resumed run has the same one.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "learner_fixture.h"
#include "model/checkpoint.h"
#include "tests/support/temp_dir.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/reference_model.h"

namespace tramontane {
namespace {

using testing::Batches;
using testing::Flat;
using testing::Sampler;
using testing::TinyModel;
using testing::TinyRun;

RunConfig WithKl(const std::string& kl) {
  RunConfig config = TinyRun();
  config.algorithm =
      AlgorithmFromJson(Json::parse(R"({"filter": {"zero_variance": "keep"}, "kl": )" + kl + "}"))
          .value();
  return config;
}

std::unique_ptr<Learner> MakeLearner(const RunConfig& config, std::shared_ptr<Transformer> model) {
  static MetricsRegistry metrics;  // outlives every learner
  auto learner = Learner::Create(config, std::move(model), metrics);
  EXPECT_TRUE(learner.ok()) << learner.status();
  return *std::move(learner);
}

// log π over the vocabulary at each response position, [tokens, vocab].
at::Tensor LogPolicy(Transformer& model, const Group& group, const Rollout& rollout) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> sequence(group.task.row.prompt_tokens.begin(),
                                group.task.row.prompt_tokens.end());
  const auto prompt = static_cast<int64_t>(sequence.size()),
             count = static_cast<int64_t>(rollout.tokens.size());
  sequence.insert(sequence.end(), rollout.tokens.begin(), rollout.tokens.end());
  const auto length = static_cast<int64_t>(sequence.size());
  PackedAttention attention({0, length});
  const at::Tensor hidden =
      model.Forward(at::tensor(sequence, at::kLong), at::arange(length, at::kLong), attention);
  return model.Logits(hidden.narrow(0, prompt - 1, count)).to(at::kDouble).log_softmax(-1);
}

// The mean over all tokens of what algorithm.kl.kind says.
double MeanKl(Transformer& policy, Transformer& reference, const std::vector<Group>& groups,
              const std::string& kind) {
  double sum = 0, tokens = 0;
  for (const Group& group : groups) {
    for (const Rollout& rollout : group.rollouts) {
      const at::Tensor log_p = LogPolicy(policy, group, rollout),
                       log_q = LogPolicy(reference, group, rollout);
      if (kind == "full") {
        sum += (log_p.exp() * (log_p - log_q)).sum().item<double>();
      } else {
        for (size_t t = 0; t < rollout.tokens.size(); ++t) {
          const auto row = static_cast<int64_t>(t);
          const double d = (log_q - log_p)[row][rollout.tokens[t]].item<double>();
          sum += kind == "k1" ? -d : kind == "k2" ? d * d / 2 : std::exp(d) - d - 1;
        }
      }
      tokens += static_cast<double>(rollout.tokens.size());
    }
  }
  return sum / tokens;
}

TEST(ReferenceTest, EachKindMeasuresTheDistanceFromTheFrozenStart) {
  for (const std::string kind : {"k1", "k2", "k3", "full"}) {
    for (const std::string where : {"loss", "reward"}) {
      SCOPED_TRACE(kind + " " + where);
      auto model = TinyModel(1), start = TinyModel(1);
      RunConfig config =
          WithKl(R"({"coefficient": 0.01, "kind": ")" + kind + R"(", "where": ")" + where + "\"}");
      config.algorithm.correction.anchor = "recomputed";
      auto learner = MakeLearner(config, model);
      Sampler sampler(*model, 5);
      const StepReport first = learner->Step(sampler.Groups(4, 0), 1).value();
      EXPECT_NEAR(first.metrics.at("kl"), 0, 1e-6);
      EXPECT_EQ(first.metrics.at("reference_version"), 0);
      const std::vector<Group> groups = sampler.Groups(4, 1);
      const double expected = MeanKl(*model, *start, groups, kind);
      ASSERT_GT(std::abs(expected), 1e-4);
      EXPECT_NEAR(learner->Step(groups, 2).value().metrics.at("kl"), expected,
                  1e-5 + 1e-4 * std::abs(expected));
    }
  }
}

TEST(ReferenceTest, APenaltyHoldsThePolicyNearItsStart) {
  const auto distance = [](double coefficient, const std::string& kind, const std::string& where) {
    auto model = TinyModel(1), start = TinyModel(1);
    auto learner = MakeLearner(WithKl(R"({"coefficient": )" + std::to_string(coefficient) +
                                      R"(, "kind": ")" + kind + R"(", "where": ")" + where + "\"}"),
                               model);
    Sampler sampler(*model, 5);
    for (int64_t step = 1; step <= 12; ++step)
      EXPECT_TRUE(learner->Step(sampler.Groups(4, step - 1), step).ok());
    return MeanKl(*model, *start, sampler.Groups(4, 12), "full");
  };
  const double free = distance(0, "k3", "loss");
  EXPECT_LT(distance(3, "k3", "loss"), 0.5 * free);
  EXPECT_LT(distance(3, "full", "loss"), 0.5 * free);
  EXPECT_LT(distance(3, "k1", "reward"), 0.7 * free);
}

TEST(ReferenceTest, ResetTakesTheReferenceAnew) {
  auto model = TinyModel(1);
  auto learner = MakeLearner(
      WithKl(
          R"({"kind": "k3", "coefficient": 0.01, "reference": "reset_every_n", "reset_interval_steps": 2})"),
      model);
  Sampler sampler(*model, 5);
  std::vector<double> kl, version;
  for (int64_t step = 1; step <= 4; ++step) {
    const StepReport report = learner->Step(sampler.Groups(4, step - 1), step).value();
    kl.push_back(report.metrics.at("kl"));
    version.push_back(report.metrics.at("reference_version"));
  }
  EXPECT_EQ(version, (std::vector<double>{0, 0, 2, 2}));
  EXPECT_NEAR(kl[0], 0, 1e-6);
  EXPECT_GT(kl[1], 1e-5);
  EXPECT_NEAR(kl[2], 0, 1e-6);
  EXPECT_GT(kl[3], 1e-5);
}

TEST(ReferenceTest, TheIterateIsThePolicyThatSampledAndNeedsNoCopy) {
  EXPECT_FALSE(NeedsReferenceModel(WithKl(R"({"kind": "k3", "reference": "iterate"})").algorithm));
  EXPECT_FALSE(NeedsReferenceModel(AlgorithmConfig()));
  auto model = TinyModel(1), sampled_by = TinyModel(1);
  auto learner =
      MakeLearner(WithKl(R"({"kind": "k3", "coefficient": 0.01, "reference": "iterate"})"), model);
  Sampler sampler(*model, 5);
  const std::vector<Group> groups = sampler.Groups(4, 0);
  EXPECT_NEAR(learner->Step(groups, 1).value().metrics.at("kl"), 0, 1e-6);
  const double expected = MeanKl(*model, *sampled_by, groups, "k3");  // one version behind by now
  const StepReport report = learner->Step(groups, 2).value();
  EXPECT_NEAR(report.metrics.at("kl"), expected, 1e-6 + 1e-3 * expected);
  EXPECT_FALSE(report.metrics.contains("reference_version"));
}

TEST(ReferenceTest, AResumedRunHasTheSameReferenceBonusAndMoments) {
  RunConfig config = WithKl(
      R"({"kind": "full", "coefficient": 0.1, "reference": "reset_every_n", "reset_interval_steps": 2})");
  config.algorithm.entropy = {
      .kind = "adaptive", .coefficient = 0, .target = 100, .step = .01, .min = 0, .max = .05};
  config.trainer.optimiser_reset_interval_steps = 3;
  const std::vector<std::vector<Group>> batches = Batches(5);
  const TempDir temp;
  const std::string& dir = temp.path();
  std::filesystem::create_directories(dir + "/hf");
  auto through = MakeLearner(config, TinyModel(1));
  for (int64_t step = 1; step <= 5; ++step) {
    const StepReport report = through->Step(batches[step - 1], step).value();
    // Entropy is below the target from the start; the first step knows nothing of it yet.
    EXPECT_NEAR(report.metrics.at("entropy_coefficient"),
                step == 1 ? 0 : std::min(.05, .01 * (step - 1)), 1e-12);
    if (step != 3) continue;
    ASSERT_TRUE(SaveTransformer(through->model(), dir, dir + "/hf").ok());
    ASSERT_TRUE(through->SaveState(dir).ok());
  }
  auto resumed = MakeLearner(config, LoadTransformer(dir + "/hf").value());
  ASSERT_TRUE(resumed->LoadState(dir).ok());
  for (int64_t step = 4; step <= 5; ++step)
    ASSERT_TRUE(resumed->Step(batches[step - 1], step).ok());
  EXPECT_TRUE(at::equal(Flat(resumed->model()), Flat(through->model())));

  std::filesystem::remove_all(dir + "/reference");
  const absl::Status missing =
      MakeLearner(config, LoadTransformer(dir + "/hf").value())->LoadState(dir);
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_NE(missing.message().find("reference"), std::string::npos);
}

TEST(ReferenceTest, RowsOfDifferentTemperaturesShareAMicrobatch) {
  const auto train = [](int microbatch_tokens) {
    auto model = TinyModel(1, at::kDouble);
    RunConfig config = WithKl(R"({"kind": "k3", "coefficient": 0.1})");
    config.trainer.microbatch_tokens = microbatch_tokens;
    auto learner = MakeLearner(config, model);
    const auto sampled_by = TinyModel(1);
    Sampler sampler(*sampled_by, 7);
    std::vector<Group> groups = sampler.Groups(4, 0);
    groups[1].task.sampling.temperature = 0.5;
    groups[2].task.sampling.temperature = 1.5;
    EXPECT_TRUE(learner->Step(groups, 1).ok());
    EXPECT_TRUE(learner->Step(groups, 2).ok());
    return Flat(*model);
  };
  const at::Tensor together = train(100000), alone = train(1);
  EXPECT_LE((together - alone).abs().max().item<double>(), 1e-9);
}

TEST(ReferenceTest, SchedulesReachTheLearner) {
  auto model = TinyModel(1);
  RunConfig config = WithKl(R"({"kind": "none"})");
  config.schedules["trainer.learning_rate"] = {
      .steps = {2, 4}, .values = {1e-3, 3e-3}, .interpolate = "linear"};
  config.schedules["algorithm.entropy.coefficient"] = {.steps = {3}, .values = {0.5}};
  config.algorithm.entropy.kind = "fixed";
  config.model.path = "/m";  // a schedule is applied to a whole, valid configuration
  config.data.train = "/t";
  config.verifiers["math"].builtin = "math";
  auto learner = MakeLearner(config, model);
  Sampler sampler(*model, 5);
  std::vector<double> rates, bonuses;
  for (int64_t step = 1; step <= 4; ++step) {
    const StepReport report = learner->Step(sampler.Groups(4, step - 1), step).value();
    rates.push_back(report.learning_rate);
    bonuses.push_back(report.metrics.at("entropy_coefficient"));
  }
  EXPECT_EQ(rates, (std::vector<double>{1e-2, 1e-3, 2e-3, 3e-3}));
  EXPECT_EQ(bonuses, (std::vector<double>{0, 0, 0.5, 0.5}));
}

}  // namespace
}  // namespace tramontane
