#include "model/checkpoint.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>

#include "model/safetensors.h"
#include "tests/support/source_file.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

class Checkpoint : public ::testing::Test {
 protected:
  std::string Golden(const std::string& name) const {
    return SourceFile("tests/golden/model/" + name);
  }
  const TempDir temp_;
  const fs::path dir_ = temp_.path();
};

bool SameWeights(const Transformer& a, const Transformer& b) {
  const auto x = a.NamedWeights(), y = b.NamedWeights();
  if (x.size() != y.size()) return false;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i].first != y[i].first || !torch::equal(x[i].second, y[i].second)) return false;
  }
  return true;
}

TEST_F(Checkpoint, ComesBackWhole) {
  const auto model = LoadTransformer(Golden("llama_biases_tied"));
  ASSERT_TRUE(model.ok()) << model.status();
  std::ofstream(dir_ / "tokenizer.json") << "{}";
  fs::create_directories(dir_ / "out");
  ASSERT_TRUE(SaveTransformer(**model, dir_.string(), (dir_ / "out").string()).ok());
  EXPECT_TRUE(fs::exists(dir_ / "out" / "tokenizer.json"));
  const auto again = LoadTransformer((dir_ / "out").string());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(SameWeights(**model, **again));
  EXPECT_EQ((*again)->config().source, (*model)->config().source);
}

TEST_F(Checkpoint, ComesBackFromShardsAndNamesAMissingOne) {
  const auto model = LoadTransformer(Golden("qwen3_bias_untied"));
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE(SaveTransformer(**model, dir_.string(), dir_.string(), 8192).ok());
  EXPECT_FALSE(fs::exists(dir_ / "model.safetensors"));
  const auto again = LoadTransformer(dir_.string());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(SameWeights(**model, **again));
  fs::path second;
  for (const auto& file : fs::directory_iterator(dir_)) {
    if (file.path().filename().string().rfind("model-00002-of", 0) == 0) second = file.path();
  }
  ASSERT_FALSE(second.empty());
  fs::remove(second);
  const auto broken = LoadTransformer(dir_.string());
  EXPECT_EQ(broken.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(broken.status().message()).find(second.filename().string()),
            std::string::npos);
}

TEST_F(Checkpoint, SaysWhichTensorDoesNotFit) {
  fs::copy(Golden("llama"), dir_, fs::copy_options::recursive);
  nlohmann::json config = nlohmann::json::parse(std::ifstream(dir_ / "config.json"));
  const auto load_with = [&](const char* key, nlohmann::json value) {
    nlohmann::json changed = config;
    changed[key] = value;
    std::ofstream(dir_ / "config.json") << changed.dump();
    return LoadTransformer(dir_.string()).status();
  };
  const absl::Status shape = load_with("intermediate_size", 40);
  EXPECT_EQ(shape.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(std::string(shape.message()).find("gate_proj"), std::string::npos) << shape;
  const absl::Status missing = load_with("num_hidden_layers", 3);
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(missing.message()).find("model.layers.2."), std::string::npos) << missing;
  const absl::Status extra = load_with("num_hidden_layers", 1);
  EXPECT_EQ(extra.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(std::string(extra.message()).find("model.layers.1."), std::string::npos) << extra;
}

TEST_F(Checkpoint, IndexMayNotLeaveItsFolder) {
  fs::copy(Golden("llama"), dir_, fs::copy_options::recursive);
  std::ofstream(dir_ / "model.safetensors.index.json")
      << R"({"weight_map": {"model.norm.weight": "../model.safetensors"}})";
  EXPECT_EQ(LoadTransformer(dir_.string()).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(Checkpoint, ParameterNamesAreCheckpointNames) {
  const auto model = LoadTransformer(Golden("qwen3"));
  ASSERT_TRUE(model.ok()) << model.status();
  std::set<std::string> names, weights;
  for (const auto& item : (*model)->named_parameters()) names.insert(item.key());
  for (const auto& [name, tensor] : (*model)->NamedWeights()) weights.insert(name);
  EXPECT_EQ(names, weights);
  EXPECT_TRUE(weights.contains("model.layers.1.self_attn.q_norm.weight"));
  EXPECT_FALSE(weights.contains("lm_head.weight"));
}

}  // namespace
}  // namespace tramontane
