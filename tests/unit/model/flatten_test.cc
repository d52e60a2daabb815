#include "model/weights/flatten.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "model/packed_attention.h"
#include "model/score.h"

namespace tramontane {
namespace {

ModelConfig Tiny() {
  return *ParseModelConfig({{"model_type", "qwen3"},
                            {"vocab_size", 30},
                            {"hidden_size", 16},
                            {"intermediate_size", 24},
                            {"num_hidden_layers", 2},
                            {"num_attention_heads", 2},
                            {"num_key_value_heads", 1},
                            {"head_dim", 8},
                            {"tie_word_embeddings", true}});
}

TEST(FlattenWeights, CarriesAModelIntoAnotherInPlace) {
  Transformer a(Tiny()), b(Tiny());
  a.InitRandom(1);
  b.InitRandom(2);
  const std::vector<int32_t> probe = {1, 5, 9, 13, 2};
  const auto before = ScoreTokens(a, probe);
  EXPECT_NE(ScoreTokens(b, probe), before);
  std::vector<char> payload;
  const WeightManifest manifest = FlattenWeights(a, 7, payload);
  EXPECT_TRUE(CheckManifest(manifest).ok());
  EXPECT_TRUE(VerifyPayload(manifest, payload.data(), payload.size()).ok());
  EXPECT_EQ(manifest.version, 7);
  std::vector<const void*> addresses;
  for (auto& [name, tensor] : b.NamedWeights()) addresses.push_back(tensor.const_data_ptr());
  ASSERT_TRUE(CopyInto(b, manifest, payload.data()).ok());
  // The joint buffers behind the projections moved along with their slices.
  EXPECT_EQ(ScoreTokens(b, probe), before);
  size_t i = 0;
  for (auto& [name, tensor] : b.NamedWeights())
    EXPECT_EQ(tensor.const_data_ptr(), addresses[i++]) << name;
}

TEST(FlattenWeights, RefusesAnotherModelsManifest) {
  Transformer model(Tiny());
  model.InitRandom(1);
  std::vector<char> payload;
  const WeightManifest good = FlattenWeights(model, 1, payload);
  for (const auto& tensor : good.tensors) EXPECT_EQ(tensor.offset_bytes % 64, 0u);
  const auto refused = [&](auto spoil) {
    WeightManifest manifest = good;
    spoil(manifest);
    return CheckManifestAgainst(EntriesOf(model), manifest);
  };
  EXPECT_FALSE(refused([](WeightManifest& m) { m.tensors.pop_back(); }).ok());
  EXPECT_FALSE(refused([](WeightManifest& m) { m.tensors[1].name = "other"; }).ok());
  EXPECT_FALSE(refused([](WeightManifest& m) { m.tensors[0].shape = {16, 30}; }).ok());
  EXPECT_FALSE(refused([](WeightManifest& m) { m.tensors[0].dtype = "bfloat16"; }).ok());
  EXPECT_FALSE(refused([](WeightManifest& m) { m.tensors.push_back(m.tensors[0]); }).ok());
  EXPECT_TRUE(refused([](WeightManifest&) {}).ok());
}

}  // namespace
}  // namespace tramontane
