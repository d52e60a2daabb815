// Distillation and DPO as the learner does them: losses by formula, gradients by movement, state.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "learner_fixture.h"
#include "model/model_dir.h"
#include "model/score.h"
#include "tests/support/temp_dir.h"
#include "trainer/learner/checkpoint.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using testing::Flat;
using testing::Sampler;
using testing::TinyModel;
using testing::TinyRun;
using ::testing::HasSubstr;

class SupervisedTest : public ::testing::Test {
 protected:
  SupervisedTest() {
    fs::create_directories(root_ + "/source");
    EXPECT_TRUE(SaveModelDir(*TinyModel(9), root_ + "/source", root_ + "/teacher").ok());
  }

  RunConfig Config(const std::string& kind) const {
    RunConfig config = TinyRun();
    config.run.kind = kind;
    config.distill.teacher = root_ + "/teacher";
    config.sft.data = "rows";
    config.sft.steps = 100;
    config.sft.learning_rate = 1e-2;
    config.sft.warmup_steps = 0;
    config.sft.decay_fraction = 0;
    return config;
  }
  std::unique_ptr<Learner> Make(const RunConfig& config, uint64_t seed = 4) {
    return Learner::CreateForSft(config, TinyModel(seed), metrics_).value();
  }
  // Mean over completion tokens of Σ_v of both models' next-token distributions.
  template <class PerRow>
  double MeanOver(Transformer& student, PerRow value) const {
    const at::NoGradGuard no_grad;
    const auto teacher = TinyModel(9);
    double sum = 0, tokens = 0;
    for (const SftExample& example : examples_) {
      std::vector<int64_t> all(example.prompt_tokens.begin(), example.prompt_tokens.end());
      all.insert(all.end(), example.completion_tokens.begin(), example.completion_tokens.end());
      const auto length = static_cast<int64_t>(all.size());
      const auto log_probs = [&](Transformer& model) {
        PackedAttention attention({0, length});
        const at::Tensor hidden =
            model.Forward(at::tensor(all, at::kLong), at::arange(length, at::kLong), attention);
        return model.Logits(hidden).to(at::kDouble).log_softmax(-1);
      };
      const at::Tensor p = log_probs(student), q = log_probs(*teacher);
      for (size_t t = example.prompt_tokens.size() - 1; t + 1 < all.size(); ++t, ++tokens)
        sum += value(p[static_cast<int64_t>(t)], q[static_cast<int64_t>(t)]);
    }
    return sum / tokens;
  }

  const TempDir temp_;
  const std::string root_ = temp_.path();
  MetricsRegistry metrics_;
  const std::vector<SftExample> examples_ = {{{1, 2}, {3, 4, 0}}, {{5}, {6, 0}}, {{7, 8}, {9, 0}}};
};

TEST_F(SupervisedTest, LossIsTheMeanForwardKlOfTheTeacher) {
  auto learner = Make(Config("distill"));
  const double expected = MeanOver(learner->model(), [](const at::Tensor& p, const at::Tensor& q) {
    return (q.exp() * (q - p)).sum().item<double>();
  });
  EXPECT_GT(expected, 0.05);
  EXPECT_NEAR(learner->SftStep(examples_, 1).value().loss, expected, 1e-5);
}

TEST_F(SupervisedTest, TopKCutsTheTeacherAndReverseTurnsTheKlRound) {
  RunConfig config = Config("distill");
  config.distill.top_k = 2;
  auto cut = Make(config);
  const double expected_cut = MeanOver(cut->model(), [](const at::Tensor& p, const at::Tensor& q) {
    const auto [top, index] = q.topk(2);
    const at::Tensor kept = top.log_softmax(0);
    return (kept.exp() * (kept - p.index_select(0, index))).sum().item<double>();
  });
  EXPECT_NEAR(cut->SftStep(examples_, 1).value().loss, expected_cut, 1e-5);

  config = Config("distill");
  config.distill.direction = "reverse";
  auto reverse = Make(config);
  const double expected = MeanOver(reverse->model(), [](const at::Tensor& p, const at::Tensor& q) {
    return (p.exp() * (p - q)).sum().item<double>();
  });
  EXPECT_NEAR(reverse->SftStep(examples_, 1).value().loss, expected, 1e-5);
}

TEST_F(SupervisedTest, AStudentEqualToItsTeacherHasNothingToLearn) {
  const StepReport report = Make(Config("distill"), /*seed=*/9)->SftStep(examples_, 1).value();
  EXPECT_LT(std::abs(report.loss), 1e-6);
  EXPECT_LT(report.grad_norm, 1e-5);
}

TEST_F(SupervisedTest, TheStudentComesToItsTeacherAndOwnTokensCountBesides) {
  auto learner = Make(Config("distill"));
  double last = 0;
  const double first = learner->SftStep(examples_, 1).value().loss;
  for (int64_t step = 2; step <= 80; ++step) last = learner->SftStep(examples_, step).value().loss;
  EXPECT_LT(last, 0.05 * first);

  RunConfig both = Config("distill");
  both.distill.nll_weight = 0.5;
  auto own = Make(both);
  double nll = 0;
  for (const SftExample& example : examples_) {
    std::vector<int32_t> all = example.prompt_tokens;
    all.insert(all.end(), example.completion_tokens.begin(), example.completion_tokens.end());
    const std::vector<float> logprobs = ScoreTokens(own->model(), all);
    for (size_t t = example.prompt_tokens.size() - 1; t < logprobs.size(); ++t) nll -= logprobs[t] / 7;
  }
  EXPECT_NEAR(own->SftStep(examples_, 1).value().loss, first + 0.5 * nll, 1e-4);
}

TEST_F(SupervisedTest, ATeacherOfAnotherVocabularyIsNamed) {
  RunConfig config = Config("distill");
  config.distill.teacher = root_ + "/nowhere";
  const absl::Status missing =
      Learner::CreateForSft(config, TinyModel(1), metrics_).status();
  EXPECT_THAT(std::string(missing.message()), HasSubstr("distill.teacher"));
}

TEST_F(SupervisedTest, PreferencesAreLearntFromTheReference) {
  const std::vector<PreferencePair> pairs = {{{1, 2}, {3, 0}, {4, 5, 0}}, {{6}, {7, 8, 0}, {9, 0}}};
  for (const bool normalised : {false, true}) {
    RunConfig config = Config("dpo");
    config.dpo.length_normalised = normalised;
    auto learner = Make(config);
    const StepReport first = learner->DpoStep(pairs, 1).value();
    EXPECT_NEAR(first.loss, std::log(2), 1e-5);  // the policy is its own reference yet
    EXPECT_GT(first.grad_norm, 0);
    StepReport last;
    for (int64_t step = 2; step <= 40; ++step) last = learner->DpoStep(pairs, step).value();
    EXPECT_EQ(last.metrics.at("dpo_accuracy"), 1);
    EXPECT_LT(last.loss, 0.9 * first.loss);
    EXPECT_GT(last.metrics.at("dpo_chosen_logratio"), last.metrics.at("dpo_rejected_logratio"));
  }
}

TEST_F(SupervisedTest, AHeldOutLossIsTheStepsOwnAndTeachesNothing) {
  for (const std::string kind : {"sft", "distill"}) {
    SCOPED_TRACE(kind);
    RunConfig config = Config(kind);
    config.distill.nll_weight = 0.5;
    config.trainer.microbatch_tokens = 4;  // several
    config.trainer.threads = 2;
    auto learner = Make(config);
    const at::Tensor before = Flat(learner->model());
    const double loss = learner->HeldOutLoss(examples_).value();
    EXPECT_TRUE(at::equal(Flat(learner->model()), before));
    EXPECT_NEAR(learner->SftStep(examples_, 1).value().loss, loss, 1e-6);
    EXPECT_LT(learner->HeldOutLoss(examples_).value(), loss);
  }
  const std::vector<PreferencePair> pairs = {{{1, 2}, {3, 0}, {4, 5, 0}}, {{5}, {6, 7, 0}, {8, 0}}};
  auto learner = Make(Config("dpo"));
  const double loss = learner->HeldOutLoss(pairs).value();
  EXPECT_NEAR(loss, std::log(2.0), 1e-5);  // nothing is preferred yet
  EXPECT_NEAR(learner->DpoStep(pairs, 1).value().loss, loss, 1e-6);
  EXPECT_LT(learner->HeldOutLoss(pairs).value(), loss);
}

TEST_F(SupervisedTest, DpoGradientsDoNotDependOnThePacking) {
  const std::vector<PreferencePair> pairs = {{{1, 2}, {3, 0}, {4, 5, 0}}, {{6}, {7, 8, 0}, {9, 0}},
                                             {{2}, {2, 0}, {3, 3, 3, 0}}};
  std::vector<at::Tensor> after;
  for (const int32_t tokens : {5, 12, 1000}) {
    RunConfig config = Config("dpo");
    config.trainer.microbatch_tokens = tokens;
    auto learner = Make(config);
    for (int64_t step = 1; step <= 3; ++step) ASSERT_TRUE(learner->DpoStep(pairs, step).ok());
    after.push_back(Flat(learner->model()));
  }
  for (const at::Tensor& other : after)
    EXPECT_LT((other - after[0]).abs().max().item<double>(), 1e-4);
}

TEST_F(SupervisedTest, DpoResumesBitForBitWithTheReferenceItStartedFrom) {
  const std::vector<PreferencePair> pairs = {{{1, 2}, {3, 0}, {4, 5, 0}}, {{6}, {7, 8, 0}, {9, 0}}};
  const RunConfig config = Config("dpo");
  auto whole = Make(config);
  for (int64_t step = 1; step <= 4; ++step) ASSERT_TRUE(whole->DpoStep(pairs, step).ok());
  auto part = Make(config);
  for (int64_t step = 1; step <= 2; ++step) ASSERT_TRUE(part->DpoStep(pairs, step).ok());
  ASSERT_TRUE(SaveCheckpoint(root_ + "/checkpoints", *part, root_ + "/source", {2, 0, {}}, 1).ok());
  const LoadedCheckpoint found = FindNewestCheckpoint(root_ + "/checkpoints").value();
  auto resumed =
      Learner::CreateForSft(config, LoadModelDir(found.hf_dir).value(), metrics_).value();
  ASSERT_TRUE(resumed->LoadState(found.dir).ok());
  for (int64_t step = 3; step <= 4; ++step) ASSERT_TRUE(resumed->DpoStep(pairs, step).ok());
  EXPECT_TRUE(at::equal(Flat(resumed->model()), Flat(whole->model())));
}

// What the teacher finds likelier than the student becomes likelier; rewards say nothing.
TEST_F(SupervisedTest, OnPolicyDistillationFallsInReverseKlWhateverTheRewards) {
  RunConfig config = Config("distill");
  config.distill.mode = "on_policy";
  AlgorithmConfig& a = config.algorithm;
  a.advantage.baseline = a.advantage.scale = "none";
  a.advantage.reward_weight = 0;
  a.objective.kind = "pg";
  a.kl = {.kind = "k1", .coefficient = 1, .where = "token_advantage", .reference = "teacher"};
  a.filter.zero_variance = "keep";
  auto model = TinyModel(4);
  auto learner = Learner::Create(config, model, metrics_).value();
  Sampler sampler(*model, 3);
  const auto kl = [&] {
    return MeanOver(*model, [](const at::Tensor& p, const at::Tensor& q) {
      return (p.exp() * (p - q)).sum().item<double>();
    });
  };
  const double before = kl();
  StepReport report;
  for (int64_t step = 1; step <= 60; ++step)
    report = learner->Step(sampler.Groups(8, step - 1), step).value();
  EXPECT_LT(kl(), 0.4 * before);
  EXPECT_TRUE(report.metrics.contains("kl"));
}

}  // namespace
}  // namespace tramontane
