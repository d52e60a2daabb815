// Log-probabilities of tiny checkpoints against transformers' (tests/golden/model/make_golden.py).
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>

#include "model/checkpoint.h"
#include "model/ops/logprob.h"
#include "model/packed_attention.h"
#include "model/score_tool.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using Json = nlohmann::json;

std::string GoldenDir() { return SourceFile("tests/golden/model"); }

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  std::string dir() const { return GoldenDir() + "/" + GetParam(); }
  Json expected() const {
    std::ifstream file(dir() + "/expected.json");
    return Json::parse(file);
  }
};

double WorstGap(const Json& got, const Json& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double worst = 0;
  for (size_t r = 0; r < expected.size(); ++r) {
    EXPECT_EQ(got[r].size(), expected[r].size());
    for (size_t t = 0; t < expected[r].size(); ++t) {
      worst = std::max(worst, std::abs(got[r][t].get<double>() - expected[r][t].get<double>()));
    }
  }
  return worst;
}

TEST_P(Golden, ScoresAsTransformersDoes) {
  const Json golden = expected();
  for (const char* dtype : {"float32", "float64"}) {
    const auto out = ScoreTool(dir(), {{"tokens", golden["tokens"]}}, 0, dtype);
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_LT(WorstGap((*out)["logprobs"], golden["logprobs"]), 2e-5) << dtype;
  }
  // In bfloat16 other experts may be the likeliest.
  if (LoadModelConfig(dir())->expert_layers() > 0) return;
  const auto rough = ScoreTool(dir(), {{"tokens", golden["tokens"]}}, 0, "bfloat16");
  ASSERT_TRUE(rough.ok()) << rough.status();
  EXPECT_LT(WorstGap((*rough)["logprobs"], golden["logprobs"]), 0.6);
}

TEST_P(Golden, PackingChangesNothing) {
  at::NoGradGuard no_grad;
  const Json golden = expected();
  const auto model = LoadTransformer(dir());
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<int64_t> tokens, positions, offsets = {0};
  for (const Json& row : golden["tokens"]) {
    for (size_t t = 0; t < row.size(); ++t) {
      tokens.push_back(row[t].get<int64_t>());
      positions.push_back(static_cast<int64_t>(t));
    }
    offsets.push_back(static_cast<int64_t>(tokens.size()));
  }
  PackedAttention attention(offsets);
  const at::Tensor hidden =
      (*model)->Forward(torch::tensor(tokens), torch::tensor(positions), attention);
  at::Tensor targets = torch::tensor(tokens).roll(-1);
  const at::Tensor logprob =
      ChunkedLogprob(hidden, (*model)->lm_head_weight(), targets, 1.0, false, 13).logprob;
  for (size_t r = 0; r + 1 < offsets.size(); ++r) {
    for (int64_t t = offsets[r]; t + 1 < offsets[r + 1]; ++t) {
      EXPECT_NEAR(logprob[t].item<float>(), golden["logprobs"][r][t - offsets[r]].get<double>(),
                  2e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Golden,
                         ::testing::Values("llama", "llama_biases_tied", "llama_linear",
                                           "llama_dynamic", "llama_llama3", "qwen3_yarn",
                                           "mistral_window", "mistral_head_dim", "qwen2",
                                           "qwen2_window", "qwen3", "qwen3_bias_untied",
                                           "qwen3_moe", "qwen3_moe_plain", "mixtral"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Score, ListsTheMostLikelyTokens) {
  const Json in = {{"tokens", {{1, 2, 3}, Json::array(), {4}}}};
  const auto out = ScoreTool(GoldenDir() + "/llama", in, 61, "float32");
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_EQ((*out)["top"].size(), 3u);
  EXPECT_EQ((*out)["top"][0].size(), 3u);
  EXPECT_EQ((*out)["logprobs"][2].size(), 0u);
  EXPECT_EQ((*out)["top"][2].size(), 1u);
  double sum = 0, previous = 0;
  for (const Json& pair : (*out)["top"][0][0]) {
    EXPECT_LE(pair[1].get<double>(), previous);
    previous = pair[1].get<double>();
    sum += std::exp(previous);
    if (pair[0] == 2) {
      EXPECT_NEAR(previous, (*out)["logprobs"][0][0].get<double>(), 1e-5);
    }
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(Score, NamesWhatIsWrong) {
  const std::string dir = GoldenDir() + "/llama";
  EXPECT_EQ(ScoreTool(dir, {{"tokens", {{61}}}}, 0, "float32").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ScoreTool(dir, {{"token", 1}}, 0, "float32").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ScoreTool(dir, {{"tokens", {{1}}}}, 0, "int8").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ScoreTool("/no/such", {{"tokens", {{1}}}}, 0, "float32").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tramontane
