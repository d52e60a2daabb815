// The length predictor's training: the loss by formula, what it leaves alone, what it converges to,
// and resuming.
#include "trainer/learner/length_learner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "learner_fixture.h"
#include "model/length_predictor.h"
#include "tests/support/temp_dir.h"
#include "trainer/learner/optimiser_state.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::TinyModel;
using testing::TinyRun;

// Token 2 closes. How long the thought is can be told from every token of it.
std::vector<LengthExample> LengthLessons() {
  std::vector<LengthExample> lessons;
  for (int32_t length = 1; length <= 6; ++length) {
    LengthExample lesson{{1}, {5}, /*first_thought=*/1};
    for (int32_t left = length; left > 0; --left) lesson.response_tokens.push_back(5 + left);
    lesson.response_tokens.push_back(2);
    lessons.push_back(lesson);
  }
  return lessons;
}

class LengthLearnerTest : public ::testing::Test {
 protected:
  static RunConfig Config() {
    RunConfig config = TinyRun();
    config.run.kind = "length_predictor";
    config.sft.data = "rows";
    config.sft.steps = 400;
    config.sft.learning_rate = 2e-2;
    config.sft.warmup_steps = 0;
    config.sft.decay_fraction = 0.5;
    return config;
  }
  std::unique_ptr<LengthLearner> Make(const RunConfig& config) {
    return LengthLearner::Create(config, model_, metrics_).value();
  }
  // Of the predictor as it is now.
  std::shared_ptr<LengthPredictor> Predictor(const LengthLearner& learner) {
    EXPECT_TRUE(learner.SavePredictor(dir_).ok());
    return LengthPredictor::Load(dir_, model_->config()).value();
  }
  at::Tensor Weights(const LengthLearner& learner) {
    std::vector<at::Tensor> parts;
    for (const auto& [name, tensor] : Predictor(learner)->Names())
      parts.push_back(tensor.flatten());
    return at::cat(parts);
  }

  const TempDir temp_;
  const std::string dir_ = temp_.path();
  MetricsRegistry metrics_;
  const std::shared_ptr<Transformer> model_ = TinyModel(4);
  const std::vector<LengthExample> lessons_ = LengthLessons();
};

TEST_F(LengthLearnerTest, TheFirstLossIsThatOfTheUntrainedGammaOverThoughtsAndClosingTag) {
  double nll = 0, error = 0;
  int tokens = 0;
  for (int length = 1; length <= 6; ++length) {
    std::vector<int> lefts = {1};  // the closing tag
    for (int left = length; left > 0; --left) lefts.push_back(left);
    for (const int left : lefts) {
      const double x = std::log(left + 1.0);
      nll += std::lgamma(8.0) - 8 * std::log(2.0) - 7 * std::log(x) + 2 * x;
      error += std::abs(8.0 / 2 - x);
      ++tokens;
    }
  }
  const StepReport report = Make(Config())->Step(lessons_, 1).value();
  EXPECT_NEAR(report.loss, nll / tokens, 1e-4);
  EXPECT_NEAR(report.metrics.at("length_error"), error / tokens, 1e-4);
  EXPECT_EQ(report.metrics.at("length_sure"), 0);
  EXPECT_EQ(report.response_tokens, tokens);
  EXPECT_THAT(metrics_.Render(), ::testing::HasSubstr("tramontane_trainer_length_error "));
}

TEST_F(LengthLearnerTest, LearnsTheLengthsAndLeavesTheModelAlone) {
  const at::Tensor before = Flat(*model_).clone();
  const auto learner = Make(Config());
  StepReport report;
  for (int64_t step = 1; step <= 400; ++step) report = learner->Step(lessons_, step).value();
  EXPECT_LT(report.metrics.at("length_error"), 0.05);
  EXPECT_GT(report.metrics.at("length_sure"), 0.9);
  EXPECT_TRUE(at::equal(before, Flat(*model_)));
  // Behind the context's token, what each first thought says of its length.
  const at::NoGradGuard no_grad;
  PackedAttention attention({0, 2});
  const at::Tensor hidden_1D =
      model_->Forward(at::tensor({1, 5}, at::kLong), at::arange(2, at::kLong), attention)
          .narrow(0, 1, 1);
  const LengthGammas gammas = Predictor(*learner)->All(hidden_1D);
  for (int length = 1; length <= 6; ++length) {
    const double expected = (gammas.shape / gammas.rate)[0][5 + length].item<double>();
    EXPECT_NEAR(expected, std::log(length + 1.0), 0.15) << length;
  }
  // Nothing was said of the context's own token.
  EXPECT_NEAR((gammas.shape / gammas.rate)[0][5].item<double>(), 4, 1e-3);
}

TEST_F(LengthLearnerTest, ResumesBitForBit) {
  const auto whole = Make(Config());
  for (int64_t step = 1; step <= 6; ++step) ASSERT_TRUE(whole->Step(lessons_, step).ok());
  const auto first = Make(Config());
  for (int64_t step = 1; step <= 3; ++step) ASSERT_TRUE(first->Step(lessons_, step).ok());
  ASSERT_TRUE(first->Save(dir_).ok());
  const auto second = Make(Config());
  ASSERT_TRUE(second->Load(dir_).ok());
  for (int64_t step = 4; step <= 6; ++step) ASSERT_TRUE(second->Step(lessons_, step).ok());
  EXPECT_TRUE(at::equal(Weights(*whole), Weights(*second)));
  EXPECT_FALSE(at::equal(Weights(*whole), Weights(*first)));
}

TEST_F(LengthLearnerTest, PackingChangesNothingButRounding) {
  RunConfig narrow = Config();
  narrow.trainer.microbatch_tokens = 8;
  narrow.trainer.threads = 2;
  const auto one = Make(Config()), other = Make(narrow);
  const StepReport a = one->Step(lessons_, 1).value(), b = other->Step(lessons_, 1).value();
  EXPECT_GT(b.metrics.at("microbatches"), a.metrics.at("microbatches"));
  EXPECT_NEAR(a.loss, b.loss, 1e-5);
  EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-4 * a.grad_norm);
}

}  // namespace
}  // namespace tramontane
