// Adapters: what they compute, what they cost, and what is written of them.
#include "trainer/learner/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>

#include "common/files.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "rank_learners.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

using testing::Batches;
using testing::Flat;
using testing::RankRun;
using testing::Sampler;
using testing::TinyModel;
using testing::WithServingRanks;
using ::testing::HasSubstr;

LoraSection Section() { return {.rank = 4, .alpha = 8, .target_modules = {"q_proj", "down_proj"}}; }

RunConfig LoraRun(int ranks = 1, int zero = 0) {
  RunConfig config = RankRun(ranks, zero);
  config.lora = Section();
  return config;
}

std::map<std::string, at::Tensor> Copy(const Transformer& model) {
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, tensor] : model.NamedWeights()) weights[name] = tensor.detach().clone();
  return weights;
}

bool IsTarget(const std::string& name) {
  return name.ends_with("q_proj.weight") || name.ends_with("down_proj.weight");
}

class LoraTest : public ::testing::Test {
 protected:
  const TempDir temp_;
  const std::string dir_ = temp_.path();
  const std::vector<std::vector<Group>> batches_ = Batches(5);
  MetricsRegistry metrics_;
};

TEST_F(LoraTest, TheMergedForwardIsTheAdaptersForward) {
  auto model = TinyModel(1, at::kDouble);
  const auto base = Copy(*model);
  auto lora = LoraWeights::Create(*model, Section(), 5).value();
  EXPECT_TRUE(at::equal(Flat(*model), Flat(*TinyModel(1, at::kDouble)))) << "B is 0 at first";
  at::manual_seed(1);
  for (const auto& [name, master] : lora->masters()) master.normal_();
  lora->Publish();
  int targets = 0;
  for (const auto& [name, merged] : model->NamedWeights()) {
    if (!IsTarget(name)) {
      EXPECT_TRUE(at::equal(merged, base.at(name))) << name;
      continue;
    }
    const at::Tensor x = at::randn({6, merged.size(1)}, at::kDouble);
    const at::Tensor a = lora->masters()[2 * targets].second,
                     b = lora->masters()[2 * targets + 1].second;
    const at::Tensor adapters =
        at::mm(x, base.at(name).t()) + 8.0 / 4.0 * at::mm(at::mm(x, a.t()), b.t());
    EXPECT_LE((at::mm(x, merged.detach().t()) - adapters).abs().max().item<double>(), 1e-12) << name;
    ++targets;
  }
  EXPECT_EQ(targets, 4);
  EXPECT_EQ(lora->masters().size(), 8u);
}

TEST_F(LoraTest, GradientsOfAdaptersAreThoseOfTheProduct) {
  auto model = TinyModel(1, at::kDouble);
  auto lora = LoraWeights::Create(*model, Section(), 5).value();
  at::manual_seed(2);
  for (const auto& [name, master] : lora->masters()) master.normal_();
  for (size_t leaf = 0; leaf < lora->leaves().size(); ++leaf) {
    const at::Tensor d_w = at::randn_like(lora->leaves()[leaf].detach());
    lora->Translate(leaf, d_w, [&](size_t master, const at::Tensor& gradient) {
      const size_t first = master / 2 * 2;
      const at::Tensor a = lora->masters()[first].second.clone().set_requires_grad(true),
                       b = lora->masters()[first + 1].second.clone().set_requires_grad(true);
      const at::Tensor loss = (8.0 / 4.0 * at::mm(b, a) * d_w).sum();
      const auto expected = torch::autograd::grad({loss}, {a, b});
      EXPECT_LE((gradient - expected[master % 2]).abs().max().item<double>(), 1e-12) << leaf;
    });
  }
}

TEST_F(LoraTest, OnlyAdaptersAreTrainedAndCostTheirMemory) {
  auto model = TinyModel(1);
  const auto base = Copy(*model);
  auto learner = Learner::Create(LoraRun(), model, metrics_).value();
  // Two layers: q [32, 32] and down [32, 64], rank 4.
  const double adapters = 2 * 4 * ((32 + 32) + (32 + 64));
  const auto bytes = [&](const char* kind) {
    return metrics_.MakeGauge("tramontane_trainer_optimiser_bytes", {{"kind", kind}}).Value();
  };
  EXPECT_EQ(bytes("moments"), 2 * 4 * adapters);
  EXPECT_EQ(bytes("gradients"), 4 * adapters);
  for (int64_t step = 1; step <= 2; ++step) {
    ASSERT_FALSE(learner->Step(batches_[step - 1], step).value().skipped);
  }
  for (const auto& [name, tensor] : model->NamedWeights())
    EXPECT_EQ(at::equal(tensor, base.at(name)), !IsTarget(name)) << name;
}

TEST_F(LoraTest, TheRewardOfATrivialTaskRises) {
  auto model = TinyModel(2);
  RunConfig config = LoraRun();
  config.lora.target_modules = {"q_proj", "k_proj", "v_proj", "o_proj",
                                "gate_proj", "up_proj", "down_proj"};
  config.lora.rank = 8;
  auto learner = Learner::Create(config, model, metrics_).value();
  Sampler sampler(*model, 11);
  double first = 0, last = 0;
  for (int64_t step = 1; step <= 25; ++step) {
    const std::vector<Group> groups = sampler.Groups(8, step - 1);
    (step <= 3 ? first : last) = testing::MeanReward(groups);
    ASSERT_TRUE(learner->Step(groups, step).ok());
  }
  EXPECT_GT(last, first + 0.3);
}

TEST_F(LoraTest, AResumedRunGoesOnBitForBitFromBaseAndAdapters) {
  RunConfig config = LoraRun();
  auto whole = TinyModel(1);
  auto learner = Learner::Create(config, whole, metrics_).value();
  for (int64_t step = 1; step <= 5; ++step) {
    if (step == 4) {
      ASSERT_TRUE(learner->SaveState(dir_).ok());
    }
    ASSERT_TRUE(learner->Step(batches_[step - 1], step).ok());
  }
  auto resumed = TinyModel(1);
  auto again = Learner::Create(config, resumed, metrics_).value();
  const absl::Status loaded = again->LoadState(dir_);
  ASSERT_TRUE(loaded.ok()) << loaded;
  for (int64_t step = 4; step <= 5; ++step)
    ASSERT_TRUE(again->Step(batches_[step - 1], step).ok());
  EXPECT_TRUE(at::equal(Flat(*resumed), Flat(*whole)));

  config.lora.rank = 2;
  auto other = Learner::Create(config, TinyModel(1), metrics_).value();
  const absl::Status refused = other->LoadState(dir_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("lora_A"));
  config.lora.target_modules = {"q_proj"};
  auto fewer = Learner::Create(config, TinyModel(1), metrics_).value();
  EXPECT_EQ(fewer->LoadState(dir_).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LoraTest, AdaptersAreWrittenInPeftsLayout) {
  RunConfig config = LoraRun();
  config.model.path = "/models/base";
  auto learner = Learner::Create(config, TinyModel(1), metrics_).value();
  ASSERT_TRUE(learner->SaveState(dir_).ok());
  const Json described = Json::parse(ReadFile(dir_ + "/adapter/adapter_config.json").value());
  EXPECT_EQ(described["peft_type"], "LORA");
  EXPECT_EQ(described["r"], 4);
  EXPECT_EQ(described["lora_alpha"], 8);
  EXPECT_EQ(described["target_modules"], Json::array({"q_proj", "down_proj"}));
  EXPECT_EQ(described["base_model_name_or_path"], "/models/base");
  auto file = SafetensorsFile::Open(dir_ + "/adapter/adapter_model.safetensors").value();
  EXPECT_EQ(file->header().tensors.size(), 8u);
  const auto& a = file->header().tensors.at(
      "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight");
  const auto& b = file->header().tensors.at(
      "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
  EXPECT_EQ(a.shape, (std::vector<int64_t>{4, 64}));
  EXPECT_EQ(b.shape, (std::vector<int64_t>{32, 4}));
}

TEST_F(LoraTest, RanksShareAdaptersToo) {
  at::Tensor alone;
  for (const auto& [ranks, zero] : std::vector<std::pair<int, int>>{{1, 0}, {2, 1}, {3, 2}}) {
    WithServingRanks(ranks, true, [&, ranks = ranks, zero = zero](RankGroup* group) {
      auto model = TinyModel(1, at::kDouble);
      auto created = Learner::Create(LoraRun(ranks, zero), model, metrics_, group);
      ASSERT_TRUE(created.ok()) << created.status();
      for (int64_t step = 1; step <= 2; ++step)
        ASSERT_FALSE((*created)->Step(batches_[step - 1], step).value().skipped);
      if (ranks == 1) alone = Flat(*model);
      EXPECT_LE(((Flat(*model) - alone).norm() / alone.norm()).item<double>(), 1e-9) << ranks;
    });
  }
}

TEST_F(LoraTest, AModuleThatTheModelHasNotIsRefusedByName) {
  LoraSection section = Section();
  section.target_modules.push_back("router");
  const absl::Status status = LoraWeights::Create(*TinyModel(1), section, 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("router"));
}

}  // namespace
}  // namespace tramontane
