// Budget guidance from end to end: a model learns to count down from a number of its own choice, a
// predictor learns beside it how long that takes, and the two generate within a budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/metrics.h"
#include "learner_fixture.h"
#include "model/length_predictor.h"
#include "tests/unit/generator/engine_fixture.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/length_learner.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kLeastCount = 2, kMostCount = 9, kSamples = 128;

std::vector<int32_t> AsBytes(const std::string& text) { return {text.begin(), text.end()}; }

// "4\n3\n2\n1\n": two tokens a number.
std::string CountDown(int32_t from) {
  std::string text;
  for (int32_t n = from; n > 0; --n) text += std::to_string(n) + "\n";
  return text;
}

class LengthGuided : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = TinyModel(5, 0.1);
    RunConfig config = testing::TinyRun();
    config.run.kind = "sft";
    config.trainer.microbatch_tokens = 512;
    config.sft.data = "rows";
    config.sft.steps = 400;
    config.sft.learning_rate = 1e-2;
    config.sft.warmup_steps = 10;
    config.sft.decay_fraction = 0.5;
    std::vector<SftExample> rows;
    std::vector<LengthExample> lengths;
    for (int32_t from = kLeastCount; from <= kMostCount; ++from) {
      const std::string thoughts = CountDown(from);
      std::vector<int32_t> completion = AsBytes(thoughts + ">ok");
      completion.push_back(kEndToken);
      rows.push_back({Prompt(), completion});
      lengths.push_back({Prompt(), AsBytes(thoughts + ">"), 0});
    }
    static MetricsRegistry metrics;
    auto learner = Learner::CreateForSft(config, model_, metrics).value();
    for (int64_t step = 1; step <= config.sft.steps; ++step)
      ASSERT_TRUE(learner->SftStep(rows, step).ok());
    config.run.kind = "length_predictor";
    config.sft.learning_rate = 2e-2;
    auto predictor = LengthLearner::Create(config, model_, metrics).value();
    for (int64_t step = 1; step <= config.sft.steps; ++step)
      ASSERT_TRUE(predictor->Step(lengths, step).ok());
    std::string name = fs::temp_directory_path() / "length_guided_test_XXXXXX";
    const std::string dir = ::mkdtemp(name.data());
    ASSERT_TRUE(predictor->SavePredictor(dir).ok());
    predictor_ = LengthPredictor::Load(dir, model_->config()).value();
    fs::remove_all(dir);
  }
  static void TearDownTestSuite() {
    model_.reset();
    predictor_.reset();
  }

  static std::vector<int32_t> Prompt() { return AsBytes("count <"); }

  struct Outcome {
    double mean_length = 0, exhausted = 0, counted_well = 0;  // the others are shares
  };

  Outcome Think(int32_t budget, bool guided, double temperature = 1) {
    EngineOptions options;
    options.thinking.open = "<";
    options.thinking.close = ">";
    options.length_predictor = predictor_;
    MetricsRegistry metrics;
    Collector collector;
    const auto engine = Engine::Create(options, model_, ByteTokenizer(), metrics).value();
    SamplingParams sampling;
    sampling.max_new_tokens = 48;
    sampling.temperature = temperature;
    sampling.seed = 7;
    sampling.thinking =
        ThinkingParams{.budget = budget, .on_exhaust = "cwm", .reserve = 8, .guidance = guided};
    EXPECT_TRUE(engine->Submit(collector.Request("a", Prompt(), sampling, kSamples)).ok());
    EXPECT_TRUE(collector.WaitFinished(kSamples));
    Outcome outcome;
    for (const auto& [i, rollout] : collector.rollouts("a")) {
      EXPECT_LE(rollout.usage.thinking, budget);
      outcome.mean_length += rollout.usage.thinking / double{kSamples};
      outcome.exhausted += !rollout.injected.empty() / double{kSamples};
      const std::string thoughts = rollout.text.substr(0, rollout.text.find('>'));
      outcome.counted_well +=
          (!thoughts.empty() && thoughts == CountDown(thoughts[0] - '0')) / double{kSamples};
    }
    return outcome;
  }

  static std::shared_ptr<Transformer> model_;
  static std::shared_ptr<const LengthPredictor> predictor_;
};

std::shared_ptr<Transformer> LengthGuided::model_;
std::shared_ptr<const LengthPredictor> LengthGuided::predictor_;

TEST_F(LengthGuided, MeanLengthGrowsWithTheBudgetAndThoughtsEndByThemselves) {
  const Outcome free = Think(2 * kMostCount, /*guided=*/false);
  ASSERT_GT(free.counted_well, 0.9) << "the model must have learnt to count";
  double before = 0;
  for (const int32_t budget : {5, 9, 13, 24}) {
    const Outcome guided = Think(budget, true), cut = Think(budget, false);
    EXPECT_GT(guided.mean_length, before + 0.5) << budget;
    EXPECT_LT(guided.exhausted, 0.25) << budget;
    EXPECT_GT(guided.counted_well, 0.75) << budget;
    if (budget < 2 * kMostCount) {
      EXPECT_GT(cut.exhausted, guided.exhausted + 0.1) << budget;
    }
    before = guided.mean_length;
  }
}

TEST_F(LengthGuided, GreedyThoughtsFitAsWell) {
  for (const int32_t budget : {5, 9}) {
    const Outcome guided = Think(budget, true, /*temperature=*/0);
    EXPECT_EQ(guided.exhausted, 0) << budget;
    EXPECT_EQ(guided.counted_well, 1) << budget;
  }
}

}  // namespace
}  // namespace tramontane
