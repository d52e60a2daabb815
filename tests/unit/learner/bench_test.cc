// What `bench train` reports: the count of operations by hand, and numbers that fit together.
#include "trainer/learner/bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "learner_fixture.h"
#include "model/checkpoint.h"
#include "trainer/learner/model_flop.h"

namespace tramontane {
namespace {

TEST(TrainBenchTest, OperationsAreThoseOfTheModelsMatricesAndOfAttention) {
  const ModelConfig config = testing::TinyModel(1)->config();
  // 2 layers: q and o 32 × 32, k and v 32 × 16, three of 32 × 64; head 32 × 12.
  const double matrices = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64), head = 32 * 12;
  const double attention = 2 * 2 * 32 * (5 * 6 / 2);
  const SequencePass pass{.inputs = 5, .responses = 3};
  EXPECT_DOUBLE_EQ(TrainingFlop(config, {pass}), 6 * (5 * matrices + 3 * head + attention));
  EXPECT_DOUBLE_EQ(TrainingFlop(config, {pass, pass}), 2 * TrainingFlop(config, {pass}));
  // The last three positions see 3, 4 and 5.
  EXPECT_DOUBLE_EQ(TrainingFlop(config, {{.inputs = 5, .held = 2, .responses = 3}}),
                   6 * (3 * matrices + 3 * head + 2 * 2 * 32 * (3 + 4 + 5)));
}

TEST(TrainBenchTest, ReportsStepsThatAddUp) {
  const std::string dir = ::testing::TempDir() + "/train_bench_test";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  ASSERT_TRUE(SaveTransformer(*testing::TinyModel(1), dir, dir).ok());
  TrainBenchOptions options{.groups = 4,
                            .samples = 4,
                            .prompt_tokens = 3,
                            .response_tokens = 6,
                            .steps = 3,
                            .threads = 2,
                            .microbatch_tokens = 64,
                            .algorithm = R"({"kl": {"kind": "k3"}})"};
  const absl::StatusOr<Json> report = BenchTrain(dir, options);
  ASSERT_TRUE(report.ok()) << report.status();
  const double median = (*report)["step_seconds"]["median"];
  EXPECT_LE((*report)["step_seconds"]["best"], median);
  EXPECT_NEAR((*report)["tokens_per_second"].get<double>() * median, 4 * 4 * 8, 1e-6);
  EXPECT_EQ((*report)["packed_tokens"],
            4 * (3 + 4 * 5));  // one microbatch a thread, two groups each
  EXPECT_NEAR((*report)["packed_tokens_per_second"].get<double>() * median, 4 * (3 + 4 * 5), 1e-6);
  EXPECT_NEAR((*report)["response_tokens_per_second"].get<double>() * median, 4 * 4 * 6, 1e-6);
  EXPECT_GT((*report)["phase_seconds"]["forward_backward"], 0);
  EXPECT_GT((*report)["model_flop_share"], 0);
  EXPECT_LT((*report)["model_flop_share"], 1.5);
  EXPECT_GT((*report)["peak_memory_mib"], (*report)["weight_mib"]);
  EXPECT_EQ((*report)["gradient_mib"].get<double>(), 2 * (*report)["weight_mib"].get<double>());
  options.share_prompts = false;
  options.lengths = "ragged";
  const absl::StatusOr<Json> ragged = BenchTrain(dir, options);
  ASSERT_TRUE(ragged.ok()) << ragged.status();
  const auto lengths = (*ragged)["response_lengths"].get<std::vector<int64_t>>();
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  EXPECT_GT(std::ranges::max(lengths), std::ranges::min(lengths));
  EXPECT_LE(std::ranges::max(lengths), 6);
  EXPECT_GE(std::ranges::min(lengths), 1);
  EXPECT_EQ((*ragged)["input_tokens"], total + 4 * 4 * 2);
  EXPECT_EQ((*ragged)["packed_tokens"], (*ragged)["input_tokens"]);
  options.lengths = "odd";
  EXPECT_EQ(BenchTrain(dir, options).status().code(), absl::StatusCode::kInvalidArgument);
  options.lengths = "equal";
  options.lora_rank = 2;
  options.activation_checkpointing = true;
  const absl::StatusOr<Json> adapters = BenchTrain(dir, options);
  ASSERT_TRUE(adapters.ok()) << adapters.status();
  EXPECT_LT((*adapters)["moment_mib"], (*report)["moment_mib"]);
  options.dtype = "float8";
  EXPECT_EQ(BenchTrain(dir, options).status().code(), absl::StatusCode::kInvalidArgument);
  options.samples = 1;
  EXPECT_EQ(BenchTrain(dir, options).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(BenchTrain(dir + "/nothing", TrainBenchOptions()).ok());
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace tramontane
