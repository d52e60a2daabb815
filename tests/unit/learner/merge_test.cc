// Merged models: by formula, tensor by tensor.
#include "trainer/learner/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "learner_fixture.h"
#include "model/model_dir.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using testing::Flat;
using testing::TinyModel;
using ::testing::HasSubstr;

class MergeTest : public ::testing::Test {
 protected:
  MergeTest() {
    fs::create_directories(root_ + "/source");
    for (int seed = 1; seed <= 3; ++seed)
      EXPECT_TRUE(SaveModelDir(*TinyModel(seed), root_ + "/source", Dir(seed)).ok());
  }

  std::string Dir(int seed) const { return root_ + "/" + std::to_string(seed); }
  at::Tensor Merged(const MergeSection& merge) {
    const std::string out = root_ + "/merged" + std::to_string(++made_);
    const absl::Status status = MergeModels(merge, Dir(1), out);
    EXPECT_TRUE(status.ok()) << status;
    return Flat(*LoadModelDir(out).value());
  }

  const TempDir temp_;
  const std::string root_ = temp_.path();
  int made_ = 0;
  const at::Tensor a_ = Flat(*TinyModel(1)), b_ = Flat(*TinyModel(2)), c_ = Flat(*TinyModel(3));
};

TEST_F(MergeTest, LinearIsTheWeightedMeanAndEqualModelsStayWhatTheyAre) {
  EXPECT_LT((Merged({"linear", {Dir(1), Dir(2)}, {}}) - (a_ + b_) / 2).abs().max().item<double>(),
            1e-7);
  EXPECT_LT((Merged({"linear", {Dir(1), Dir(2), Dir(3)}, {1, 2, 5}}) - (a_ + 2 * b_ + 5 * c_) / 8)
                .abs()
                .max()
                .item<double>(),
            1e-6);
  EXPECT_TRUE(at::equal(Merged({"linear", {Dir(2), Dir(2)}, {}}), b_));
}

TEST_F(MergeTest, TaskArithmeticAddsWhatEachModelHasLearnt) {
  const at::Tensor expected = a_ + 0.5 * (b_ - a_) + 2 * (c_ - a_);
  const at::Tensor merged = Merged({"task_arithmetic", {Dir(2), Dir(3)}, {0.5, 2}});
  EXPECT_LT((merged - expected).abs().max().item<double>(), 1e-6);
}

TEST_F(MergeTest, SlerpKeepsTheNormWhereTheLineWouldCut) {
  EXPECT_TRUE(at::equal(Merged({"slerp", {Dir(1), Dir(2)}, {1, 0}}), a_));
  EXPECT_LT((Merged({"slerp", {Dir(1), Dir(2)}, {0, 1}}) - b_).abs().max().item<double>(), 1e-7);
  MergeSection half = {"slerp", {Dir(1), Dir(2)}, {}};
  EXPECT_TRUE(MergeModels(half, Dir(1), root_ + "/half").ok());
  const auto one = TinyModel(1)->NamedWeights(), two = TinyModel(2)->NamedWeights();
  const auto model = LoadModelDir(root_ + "/half").value();
  const auto between = model->NamedWeights();
  for (size_t i = 0; i < one.size(); ++i) {
    const at::Tensor x = one[i].second.to(at::kDouble), y = two[i].second.to(at::kDouble);
    const double angle = std::acos(std::min(
        1.0, ((x * y).sum() / (x.norm() * y.norm())).item<double>()));
    const at::Tensor expected = angle < 1e-6 ? (x + y) / 2 : (x + y) / (2 * std::cos(angle / 2));
    EXPECT_LT((between[i].second.to(at::kDouble) - expected).abs().max().item<double>(), 1e-6)
        << one[i].first;
  }
}

TEST_F(MergeTest, ModelsOfAnotherShapeAreNamedAndNothingIsWritten) {
  const ModelConfig other = ParseModelConfig(Json::parse(R"({
      "model_type": "qwen3", "vocab_size": 12, "hidden_size": 16, "intermediate_size": 64,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
      "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
      "tie_word_embeddings": true, "eos_token_id": 0})")).value();
  Transformer narrow(other, at::kCPU, at::kFloat);
  ASSERT_TRUE(SaveModelDir(narrow, root_ + "/source", root_ + "/narrow").ok());
  const absl::Status status =
      MergeModels({"linear", {Dir(1), root_ + "/narrow"}, {}}, Dir(1), root_ + "/out");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("narrow"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("merged_models_are_of_one_shape"));
  EXPECT_FALSE(fs::exists(root_ + "/out"));
}

}  // namespace
}  // namespace tramontane
