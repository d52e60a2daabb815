#include "model/init.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>

#include "model/checkpoint.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

class Init : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "c", "tokenizer"}) fs::create_directories(dir_ / name);
  }
  std::string At(const char* name) const { return (dir_ / name).string(); }
  const TempDir temp_;
  const fs::path dir_ = temp_.path();
  nlohmann::json fields_ = {
      {"model_type", "qwen3"},  {"hidden_size", 32},          {"intermediate_size", 48},
      {"num_hidden_layers", 2}, {"num_attention_heads", 4},   {"num_key_value_heads", 2},
      {"head_dim", 8},          {"tie_word_embeddings", true}};
};

TEST_F(Init, OneSeedIsOneModel) {
  fields_["vocab_size"] = 40;
  ASSERT_TRUE(InitModel(fields_, "", At("a"), 3).ok());
  ASSERT_TRUE(InitModel(fields_, "", At("b"), 3).ok());
  ASSERT_TRUE(InitModel(fields_, "", At("c"), 4).ok());
  const auto a = *LoadTransformer(At("a")), b = *LoadTransformer(At("b")),
             c = *LoadTransformer(At("c"));
  const at::Tensor x = a->NamedWeights()[0].second;
  EXPECT_TRUE(torch::equal(x, b->NamedWeights()[0].second));
  EXPECT_FALSE(torch::equal(x, c->NamedWeights()[0].second));
  EXPECT_NEAR(x.std().item<double>(), 0.02, 0.002);
  for (const auto& [name, tensor] : a->NamedWeights()) {
    if (name.find("norm") != std::string::npos) {
      EXPECT_TRUE(torch::equal(tensor, torch::ones_like(tensor)));
    }
  }
}

TEST_F(Init, TakesVocabularyAndFilesFromTheTokenizer) {
  std::ofstream(dir_ / "tokenizer" / "tokenizer.json")
      << R"({"model": {"vocab": {"a": 0, "b": 6}}, "added_tokens": [{"id": 10, "content": "<end>"}]})";
  ASSERT_TRUE(InitModel(fields_, At("tokenizer"), At("a"), 3).ok());
  EXPECT_TRUE(fs::exists(dir_ / "a" / "tokenizer.json"));
  EXPECT_EQ((*LoadTransformer(At("a")))->config().vocab_size, 11);
  EXPECT_EQ(InitModel(fields_, At("tokenizer"), At("a"), 3).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(Init, NamesABadField) {
  fields_["vocab_size"] = "many";
  const auto result = InitModel(fields_, "", At("a"), 3);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(result.status().message()).find("vocab_size"), std::string::npos);
}

}  // namespace
}  // namespace tramontane
