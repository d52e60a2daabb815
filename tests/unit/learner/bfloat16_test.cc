// bfloat16 passes over float32 masters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "learner_fixture.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/policy_weights.h"

namespace tramontane {
namespace {

using testing::Flat;
using testing::TinyModel;
using testing::TinyRun;
using ::testing::HasSubstr;

bool HasArithmetic() { return __builtin_cpu_supports("avx512bf16"); }

std::vector<SftExample> CountingExamples() {
  std::vector<SftExample> examples;
  for (int i = 0; i < 12; ++i) {
    SftExample example{.prompt_tokens = {i, (i + 1) % 12}, .completion_tokens = {}};
    for (int t = 0; t < 8; ++t) example.completion_tokens.push_back((i + 2 + t) % 12);
    examples.push_back(example);
  }
  return examples;
}

std::vector<double> SftLosses(const std::string& dtype, int steps, double learning_rate,
                              const std::shared_ptr<Transformer>& model) {
  RunConfig config = TinyRun();
  config.trainer.dtype = dtype;
  config.sft.learning_rate = learning_rate;
  config.sft.steps = steps;
  config.sft.warmup_steps = 0;
  MetricsRegistry metrics;
  auto learner = Learner::CreateForSft(config, model, metrics);
  EXPECT_TRUE(learner.ok()) << learner.status();
  std::vector<double> losses;
  for (int64_t step = 1; step <= steps; ++step)
    losses.push_back((*learner)->SftStep(CountingExamples(), step).value().loss);
  return losses;
}

TEST(Bfloat16Test, TheLossCurveFollowsThatOfFloat32) {
  if (!HasArithmetic()) GTEST_SKIP() << "this processor has no bfloat16 arithmetic";
  const std::vector<double> exact = SftLosses("float32", 60, 1e-2, TinyModel(1));
  const std::vector<double> rounded = SftLosses("bfloat16", 60, 1e-2, TinyModel(1));
  EXPECT_LT(exact.back(), 0.2 * exact.front());
  double largest = 0;
  for (size_t i = 0; i < exact.size(); ++i)
    largest = std::max(largest, std::abs(rounded[i] - exact[i]));
  EXPECT_LT(largest, 0.05 * exact.front());
  EXPECT_GT(largest, 0) << "computed in bfloat16 indeed";
}

// Updates of 1e-6 vanish in bfloat16 weights of 0.1; masters add them up.
TEST(Bfloat16Test, MastersKeepWhatRoundingWouldLose) {
  if (!HasArithmetic()) GTEST_SKIP() << "this processor has no bfloat16 arithmetic";
  auto model = TinyModel(1);
  const at::Tensor before = Flat(*model);
  SftLosses("bfloat16", 20, 1e-6, model);
  const at::Tensor moved = (Flat(*model) - before).abs();
  EXPECT_GT(moved.mean().item<double>(), 5e-6);
  EXPECT_EQ(model->parameters()[0].scalar_type(), at::kFloat) << "what is saved and published";
}

TEST(Bfloat16Test, AProcessorWithoutTheArithmeticRefuses) {
  if (HasArithmetic()) GTEST_SKIP() << "this processor has bfloat16 arithmetic";
  RunConfig config = TinyRun();
  config.trainer.dtype = "bfloat16";
  MetricsRegistry metrics;
  const absl::Status status = Learner::Create(config, TinyModel(1), metrics).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("trainer.dtype"));
}

}  // namespace
}  // namespace tramontane
