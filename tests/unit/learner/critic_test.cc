// The critic: advantages through the learner, what it converges to, pre-training, and resuming.
#include "trainer/learner/critic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "learner_fixture.h"
#include "model/checkpoint.h"
#include "tests/support/temp_dir.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

using testing::Batches;
using testing::Flat;
using testing::Sampler;
using testing::TinyModel;
using testing::TinyRun;

RunConfig CriticRun() {
  RunConfig config = TinyRun();
  config.algorithm =
      AlgorithmFromJson(Json::parse(R"({"advantage": {"baseline": "value", "scale": "none"},
                                        "objective": {"kind": "pg", "ratio": "none"},
                                        "auxiliary": {"value_coefficient": 1, "value_clip": 0.5},
                                        "filter": {"zero_variance": "keep"}})"))
          .value();
  config.critic.learning_rate = 1e-2;
  config.critic.steps_per_rollout = 3;
  return config;
}

std::unique_ptr<Learner> CriticLearner(const RunConfig& config,
                                       std::shared_ptr<Transformer> model) {
  static MetricsRegistry metrics;  // outlives every learner
  auto learner = Learner::Create(config, std::move(model), metrics);
  EXPECT_TRUE(learner.ok()) << learner.status();
  return *std::move(learner);
}

// Rows with their rewards as the target of every token: λ = γ = 1.
CriticLesson Lesson(const std::vector<TrainRow>& rows, SampledValues value_old,
                    double learning_rate) {
  CriticLesson lesson{.rows = rows,
                      .kept = std::vector<uint8_t>(rows.size(), 1),
                      .value_old = std::move(value_old),
                      .value_target = SampledValues::Like(rows),
                      .learning_rate = learning_rate};
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t t = lesson.value_target.first[i]; t < lesson.value_target.first[i + 1]; ++t) {
      lesson.value_target.values[t] = rows[i].reward;
    }
  }
  return lesson;
}

TEST(CriticTest, WithoutDiscountTheLearnersAdvantageIsRewardMinusValueAtEveryToken) {
  const RunConfig config = CriticRun();
  auto model = TinyModel(1, at::kDouble);
  Sampler sampler(*model, 7);
  const std::vector<Group> first = sampler.Groups(4, 0), second = sampler.Groups(5, 0);
  auto learner = CriticLearner(config, model);
  // A critic of our own, taught the same.
  Crew crew(1, nullptr);
  Critic critic(*TinyModel(1, at::kDouble), config, crew);
  const CollectedRows lesson = CollectRows(first).value();
  SampledValues values = critic.Values(lesson.rows).value();
  for (double value : values.values) EXPECT_EQ(value, 0) << "the head starts at 0";
  ASSERT_EQ(critic.Learn(Lesson(lesson.rows, values, 1e-2)).value().updates, 3);
  ASSERT_TRUE(learner->Step(first, 1).ok());

  const CollectedRows rows = CollectRows(second).value();
  values = critic.Values(rows.rows).value();
  double loss = 0, tokens = 0, spread = 0;
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    const at::NoGradGuard no_grad;
    const TrainRow& row = rows.rows[i];
    std::vector<int64_t> sequence(row.prompt.begin(), row.prompt.end());
    sequence.insert(sequence.end(), row.response.begin(), row.response.end());
    const auto length = static_cast<int64_t>(sequence.size());
    PackedAttention attention({0, length});
    const at::Tensor hidden =
        model->Forward(at::tensor(sequence, at::kLong), at::arange(length, at::kLong), attention);
    const at::Tensor logp = at::mm(hidden, model->lm_head_weight().t()).log_softmax(-1);
    for (size_t t = 0; t < row.response.size(); ++t) {
      const double value = values.values[values.first[i] + t];
      const auto position = static_cast<int64_t>(row.prompt.size() + t) - 1;
      loss -= (row.reward - value) * logp[position][row.response[t]].item<double>();
      spread += std::abs(value);
      tokens += 1;
    }
  }
  ASSERT_GT(spread / tokens, 1e-3) << "the critic must have learnt something";
  const StepReport report = learner->Step(second, 2).value();
  EXPECT_NEAR(report.loss, loss / tokens, 1e-9 * std::abs(loss / tokens) + 1e-12);
}

// Rotary attention over copies of one token gives that token's value whatever the weights: what
// such a model says behind a token that is repeated from the start is what it said behind the
// first.
TEST(CriticTest, ARepeatedFirstTokenChangesNoValue) {
  const RunConfig config = CriticRun();
  Crew crew(1, nullptr);
  Critic critic(*TinyModel(3), config, crew);
  const std::vector<int32_t> prompt = {4}, response = {4, 4, 5};
  TrainRow row;
  row.prompt = prompt;
  row.response = response;
  row.reward = 1;
  const std::vector<TrainRow> rows = {row};
  ASSERT_TRUE(critic.Learn(Lesson(rows, critic.Values(rows).value(), 1e-2)).ok());
  const std::vector<double> values = critic.Values(rows).value().values;
  EXPECT_NE(values[0], 0);
  EXPECT_NEAR(values[0], values[1], 1e-5);
  EXPECT_NEAR(values[0], values[2], 1e-5);
}

// Two prompts, answers of two tokens, right when the second is the larger: all 26 prefixes and
// their chances can be written down. Prompts are of two different tokens: with one, a first token
// that repeats it would have the prompt's own value, which is not its chance (an error of 0.9e-3
// that no training takes away).
TEST(CriticTest, ValuesTendToTheChanceOfARightAnswer) {
  auto policy = TinyModel(3);
  const std::vector<std::vector<int32_t>> prompts = {{4, 9}, {9, 4}};
  const auto next = [&](std::vector<int64_t> prefix) {
    const at::NoGradGuard no_grad;
    const auto length = static_cast<int64_t>(prefix.size());
    PackedAttention attention({0, length});
    const at::Tensor hidden =
        policy->Forward(at::tensor(prefix, at::kLong), at::arange(length, at::kLong), attention);
    const at::Tensor p =
        policy->Logits(hidden.narrow(0, length - 1, 1)).to(at::kDouble).softmax(-1)[0].contiguous();
    return std::vector<double>(p.data_ptr<double>(), p.data_ptr<double>() + p.numel());
  };
  std::vector<std::vector<double>> first;                // [prompt][token]
  std::vector<std::vector<std::vector<double>>> second;  // [prompt][first token][token]
  for (const std::vector<int32_t>& prompt : prompts) {
    std::vector<int64_t> prefix(prompt.begin(), prompt.end());
    first.push_back(next(prefix));
    second.emplace_back();
    prefix.push_back(0);
    for (int64_t t = 0; t < 12; ++t) {
      prefix.back() = t;
      second.back().push_back(next(prefix));
    }
  }
  const auto right = [&](size_t p, int32_t t) {
    double chance = 0;
    for (int32_t v = t + 1; v < 12; ++v)
      chance += second[p][static_cast<size_t>(t)][static_cast<size_t>(v)];
    return chance;
  };

  RunConfig config = CriticRun();
  config.algorithm.auxiliary.value_clip.reset();
  config.critic.steps_per_rollout = 1;
  config.trainer.microbatch_tokens = 2048;
  Crew crew(1, nullptr);
  Critic critic(*policy, config, crew);
  std::mt19937 rng(5);
  std::vector<std::vector<int32_t>> responses(512, std::vector<int32_t>(2));
  std::vector<TrainRow> rows(512);
  constexpr int kSteps = 240;
  for (int step = 0; step < kSteps; ++step) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t p = i % 2;
      int32_t& a = responses[i][0];
      a = std::discrete_distribution<int32_t>(first[p].begin(), first[p].end())(rng);
      const auto& tail = second[p][static_cast<size_t>(a)];
      responses[i][1] = std::discrete_distribution<int32_t>(tail.begin(), tail.end())(rng);
      rows[i].prompt = prompts[p];
      rows[i].response = responses[i];
      rows[i].reward = responses[i][1] > a ? 1 : 0;
    }
    const double rate = 4e-3 * std::min(1.0, 1.5 * (1 - static_cast<double>(step) / kSteps));
    ASSERT_TRUE(critic.Learn(Lesson(rows, critic.Values(rows).value(), rate)).ok());
  }
  // Each first token once: the values at both positions, weighed by how often the policy gets
  // there.
  std::vector<TrainRow> all;
  std::vector<std::vector<int32_t>> every;
  for (int32_t t = 0; t < 12; ++t) every.push_back({t, 0});
  for (size_t p = 0; p < 2; ++p) {
    for (const auto& response : every) {
      TrainRow row;
      row.prompt = prompts[p];
      row.response = response;
      all.push_back(row);
    }
  }
  const SampledValues values = critic.Values(all).value();
  double error = 0, spread = 0;
  for (size_t p = 0; p < 2; ++p) {
    double start = 0;
    for (int32_t t = 0; t < 12; ++t) {
      const double weight = first[p][static_cast<size_t>(t)], exact = right(p, t);
      const double found = values.values[values.first[p * 12 + static_cast<size_t>(t)] + 1];
      start += weight * exact;
      error += weight * std::pow(found - exact, 2) / 4;
      spread += weight * std::pow(exact - 0.5, 2) / 4;
    }
    error += std::pow(values.values[values.first[p * 12]] - start, 2) / 4;
  }
  EXPECT_GT(spread, 0.01) << "a constant would not do";
  EXPECT_LT(error, 1e-3);
}

TEST(CriticTest, PreTrainingLeavesThePolicyAloneAndTakesEveryGroup) {
  RunConfig config = CriticRun();
  config.algorithm.filter.zero_variance = "drop";
  config.critic.pretrain_steps = 2;
  config.trainer.warmup_steps = 2;
  auto model = TinyModel(1);
  auto learner = CriticLearner(config, model);
  Sampler sampler(*model, 7);
  const at::Tensor start = Flat(*model);
  double loss = 0;
  for (int64_t step = 1; step <= 2; ++step) {
    std::vector<Group> groups = sampler.Groups(4, step - 1);
    for (Rollout& rollout : groups[0].rollouts) rollout.verdict.score = 1.0;  // all alike
    const StepReport report = learner->Step(groups, step).value();
    EXPECT_TRUE(report.skipped);
    EXPECT_FALSE(report.nonfinite);
    EXPECT_THAT(report.skip_reason, ::testing::HasSubstr("pre-training"));
    EXPECT_EQ(report.metrics.at("zero_variance_groups"), 0);
    EXPECT_EQ(report.metrics.at("critic_updates"), 3);
    loss = report.metrics.at("value_loss");
  }
  EXPECT_GT(loss, 0);
  EXPECT_TRUE(at::equal(Flat(*model), start));
  const StepReport report = learner->Step(sampler.Groups(4, 2), 3).value();
  EXPECT_FALSE(report.skipped) << report.skip_reason;
  EXPECT_FALSE(at::equal(Flat(*model), start));
  EXPECT_DOUBLE_EQ(report.learning_rate, config.trainer.learning_rate / 2)
      << "the warm-up begins now";
}

TEST(CriticTest, KlInTheRewardReachesTheCriticTokenByToken) {
  RunConfig config = CriticRun();
  config.algorithm.kl = {.kind = "k3", .coefficient = 0.5, .where = "reward"};
  config.algorithm.correction.anchor = "recomputed";
  auto model = TinyModel(1);
  auto learner = CriticLearner(config, model);
  Sampler sampler(*model, 7);
  ASSERT_TRUE(learner->Step(sampler.Groups(4, 0), 1).ok());
  const std::vector<Group> groups = sampler.Groups(4, 1);
  const StepReport report = learner->Step(groups, 2).value();
  ASSERT_GT(report.metrics.at("kl"), 1e-5);
  // Returns are the rewards less what KL takes off from there on: smaller than the rewards' token
  // mean.
  double rewards = 0, tokens = 0;
  for (const Group& group : groups) {
    for (const Rollout& rollout : group.rollouts) {
      rewards += *rollout.verdict.score * static_cast<double>(rollout.tokens.size());
      tokens += static_cast<double>(rollout.tokens.size());
    }
  }
  EXPECT_LT(report.metrics.at("value_target_mean"),
            rewards / tokens - 0.5 * report.metrics.at("kl"));
}

TEST(CriticTest, AResumedRunHasTheSameCriticAndMoments) {
  RunConfig config = CriticRun();
  config.trainer.threads = 2;
  const std::vector<std::vector<Group>> batches = Batches(4);
  const TempDir temp;
  const std::string& dir = temp.path();
  std::filesystem::create_directories(dir + "/hf");
  auto through = CriticLearner(config, TinyModel(1));
  StepReport last;
  for (int64_t step = 1; step <= 4; ++step) {
    last = through->Step(batches[static_cast<size_t>(step - 1)], step).value();
    if (step != 2) continue;
    ASSERT_TRUE(SaveTransformer(through->model(), dir, dir + "/hf").ok());
    ASSERT_TRUE(through->SaveState(dir).ok());
  }
  auto resumed = CriticLearner(config, LoadTransformer(dir + "/hf").value());
  const absl::Status loaded = resumed->LoadState(dir);
  ASSERT_TRUE(loaded.ok()) << loaded;
  StepReport again;
  for (int64_t step = 3; step <= 4; ++step)
    again = resumed->Step(batches[static_cast<size_t>(step - 1)], step).value();
  EXPECT_TRUE(at::equal(Flat(resumed->model()), Flat(through->model())));
  EXPECT_EQ(again.metrics.at("value_loss"), last.metrics.at("value_loss"));
  EXPECT_EQ(again.metrics.at("value_mean"), last.metrics.at("value_mean"));

  std::filesystem::remove_all(dir + "/critic");
  const absl::Status missing =
      CriticLearner(config, LoadTransformer(dir + "/hf").value())->LoadState(dir);
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_NE(missing.message().find("critic"), std::string::npos);
}

TEST(CriticTest, AnInjectedTokensValueIsNotLearnt) {
  const RunConfig config = CriticRun();
  Crew crew(1, nullptr);
  Critic critic(*TinyModel(1), config, crew);
  const std::vector<int32_t> prompt = {1, 2}, response = {3, 4, 5, 6};
  const std::vector<TokenSpan> injected = {{1, 2}};
  TrainRow row;
  row.prompt = prompt;
  row.response = response;
  row.injected = injected;
  row.reward = 1;
  const std::vector<TrainRow> rows = {row};
  ASSERT_TRUE(critic.Learn(Lesson(rows, critic.Values(rows).value(), 1e-2)).ok());
  // Values differ from 0 everywhere by now; the loss is that of the two sampled tokens alone.
  const SampledValues values = critic.Values(rows).value();
  ASSERT_EQ(values.values.size(), 2u);
  double expected = 0;
  for (double value : values.values) expected += std::pow(value - 1, 2) / 4;
  EXPECT_NEAR(critic.Learn(Lesson(rows, values, 1e-2)).value().value_loss, expected, 1e-6);
}

}  // namespace
}  // namespace tramontane
