// One learner on several ranks: the same step, whatever the number of ranks and what they share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "common/files.h"
#include "rank_learners.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

using testing::Batches;
using testing::Flat;
using testing::RankRun;
using testing::TinyModel;
using testing::WithServingRanks;
using ::testing::HasSubstr;

class RankLearnerTest : public ::testing::Test {
 protected:
  const TempDir temp_;
  const std::string dir_ = temp_.path();
  MetricsRegistry metrics_;
};

double RelativeError(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// AdamW's first moment after the first update is (1 − β₁) times the gradient.
at::Tensor FirstGradient(const std::string& dir, const RunConfig& config, at::ScalarType dtype) {
  const std::string bytes = ReadFile(dir + "/optimiser_first_moment.bin").value();
  at::Tensor moment = at::empty({static_cast<int64_t>(bytes.size() / c10::elementSize(dtype))}, dtype);
  std::memcpy(moment.data_ptr(), bytes.data(), bytes.size());
  return moment / (1 - config.trainer.adam_beta1);
}

TEST_F(RankLearnerTest, TheGradientIsTheSameForOneTwoAndThreeRanksAndAnySharing) {
  const auto batches = Batches(1, 6);
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    at::Tensor whole;
    double loss = 0;
    for (const int ranks : {1, 2, 3}) {
      for (const int zero : {0, 1, 2}) {
        for (const bool shared_memory : {true, false}) {
          if (ranks == 1 && (zero > 0 || shared_memory)) continue;
          RunConfig config = RankRun(ranks, zero);
          config.trainer.max_grad_norm = 1e9;
          WithServingRanks(ranks, shared_memory, [&](RankGroup* group) {
            auto learner = Learner::Create(config, TinyModel(1, dtype), metrics_, group).value();
            const StepReport report = learner->Step(batches[0], 1).value();
            ASSERT_FALSE(report.skipped) << report.skip_reason;
            ASSERT_TRUE(learner->SaveState(dir_).ok());
            const at::Tensor gradient = FirstGradient(dir_, config, dtype);
            if (ranks == 1) {
              whole = gradient;
              loss = report.loss;
            }
            EXPECT_NEAR(report.loss, loss, 1e-6 * std::abs(loss) + 1e-9);
            EXPECT_NEAR(report.grad_norm, whole.norm().item<double>(), 1e-6 * report.grad_norm);
            EXPECT_LE(RelativeError(gradient, whole), dtype == at::kFloat ? 1e-6 : 1e-12)
                << ranks << " ranks, zero " << zero << (shared_memory ? ", memory" : ", tcp");
          });
        }
      }
    }
  }
}

// As ServeRank, but the learner stays in reach.
void ServeAndKeep(RankGroup& group, MetricsRegistry& metrics, std::unique_ptr<Learner>& learner,
                  const std::function<void(Learner&, int64_t step)>& before_step) {
  while (true) {
    std::string bytes;
    if (!group.Broadcast(bytes, /*patient=*/true).ok()) return;
    const RankCommand command = DecodeRankCommand(bytes).value();
    if (command.op == RankOp::kCreate) {
      learner = Learner::Create(ConfigFromJson(command.config).value(), TinyModel(99), metrics,
                                &group)
                    .value();
    } else {
      before_step(*learner, command.step);
      (void)learner->Step(GroupsOf(command).value(), command.step);
    }
  }
}

TEST_F(RankLearnerTest, WeightsAreTheSameBitsOnAllRanksAfterSeveralSteps) {
  const auto batches = Batches(4, 6);
  for (const int zero : {0, 1, 2}) {
    std::map<int, at::Tensor> weights;
    std::mutex mutex;
    WithServingRanks(
        3, /*shared_memory=*/true,
        [&](RankGroup* group) {
          auto learner = Learner::Create(RankRun(3, zero), TinyModel(1), metrics_, group).value();
          for (size_t i = 0; i < batches.size(); ++i)
            ASSERT_FALSE(learner->Step(batches[i], static_cast<int64_t>(i) + 1).value().skipped);
          const std::lock_guard lock(mutex);
          weights[0] = Flat(learner->model());
        },
        [&](RankGroup& group) {
          std::unique_ptr<Learner> learner;
          MetricsRegistry metrics;
          ServeAndKeep(group, metrics, learner, [](Learner&, int64_t) {});
          const std::lock_guard lock(mutex);
          weights[group.rank()] = Flat(learner->model());
        });
    ASSERT_EQ(weights.size(), 3u);
    EXPECT_TRUE(at::equal(weights[1], weights[0])) << zero;
    EXPECT_TRUE(at::equal(weights[2], weights[0])) << zero;
    EXPECT_FALSE(at::equal(weights[0], Flat(*TinyModel(1))));
  }
}

TEST_F(RankLearnerTest, ARankWhoseWeightsHaveDriftedIsNoticedInTheSameStep) {
  const auto batches = Batches(2, 6);
  WithServingRanks(
      2, /*shared_memory=*/true,
      [&](RankGroup* group) {
        auto learner = Learner::Create(RankRun(2, 0), TinyModel(1), metrics_, group).value();
        ASSERT_TRUE(learner->Step(batches[0], 1).ok());
        const absl::Status status = learner->Step(batches[1], 2).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
        EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 has other weights than rank 0"));
      },
      [&](RankGroup& group) {
        std::unique_ptr<Learner> learner;
        MetricsRegistry metrics;
        ServeAndKeep(group, metrics, learner, [](Learner& mine, int64_t step) {
          const at::NoGradGuard no_grad;
          if (step == 2) mine.model().parameters()[1].view({-1})[0].add_(0.25);
        });
      });
}

// Everything a step may compute besides the policy's gradient.
RunConfig RichRun(int ranks, int zero, const std::string& algorithm) {
  RunConfig config = RankRun(ranks, zero);
  config.algorithm = AlgorithmFromJson(Json::parse(algorithm)).value();
  config.critic.steps_per_rollout = 2;
  config.trainer.updates_per_step = 2;
  return config;
}

TEST_F(RankLearnerTest, CriticAnchorsAndKlDoNotKnowTheNumberOfRanks) {
  const auto batches = Batches(3, 6);
  const std::vector<std::string> algorithms = {
      R"({"advantage": {"baseline": "value", "scale": "none"},
          "auxiliary": {"value_coefficient": 1}, "filter": {"zero_variance": "keep"},
          "correction": {"anchor": "recomputed"}})",
      R"({"kl": {"kind": "k3", "where": "reward", "reference": "reset_every_n",
                 "reset_interval_steps": 2, "coefficient": 0.1},
          "filter": {"zero_variance": "keep"}, "entropy": {"kind": "fixed", "coefficient": 0.01}})"};
  for (const std::string& algorithm : algorithms) {
    at::Tensor alone;
    std::map<std::string, double> measured;
    for (const int ranks : {1, 2, 3}) {
      const RunConfig config = RichRun(ranks, ranks == 3 ? 2 : 1, algorithm);
      WithServingRanks(ranks, true, [&](RankGroup* group) {
        auto created = Learner::Create(config, TinyModel(1, at::kDouble), metrics_, group);
        ASSERT_TRUE(created.ok()) << created.status();
        StepReport report;
        for (size_t i = 0; i < batches.size(); ++i)
          report = (*created)->Step(batches[i], static_cast<int64_t>(i) + 1).value();
        const at::Tensor weights = Flat((*created)->model());
        if (ranks == 1) {
          alone = weights;
          measured = report.metrics;
        }
        EXPECT_LE(RelativeError(weights, alone), 1e-9) << ranks << " " << algorithm;
        for (const char* name : {"value_loss", "value_mean", "kl", "entropy", "ratio_mean",
                                 "neg_logprob", "logprob_gap_stale_kv_tokens", "mismatch_kl"}) {
          if (measured.contains(name)) {
            EXPECT_NEAR(report.metrics.at(name), measured.at(name), 1e-7) << ranks << " " << name;
          }
        }
      });
    }
  }
}

TEST_F(RankLearnerTest, ACheckpointIsContinuedByAnyNumberOfRanks) {
  const auto batches = Batches(6, 6);
  at::Tensor uninterrupted;
  {
    auto learner = Learner::Create(RankRun(1, 0), TinyModel(1, at::kDouble), metrics_).value();
    for (size_t i = 0; i < batches.size(); ++i)
      ASSERT_TRUE(learner->Step(batches[i], static_cast<int64_t>(i) + 1).ok());
    uninterrupted = Flat(learner->model());
  }
  auto model = TinyModel(1, at::kDouble);
  int64_t step = 0;
  // Two steps on each, through files in between.
  for (const auto& [ranks, zero] : std::vector<std::pair<int, int>>{{2, 1}, {1, 0}, {3, 2}}) {
    WithServingRanks(ranks, true, [&, ranks = ranks, zero = zero](RankGroup* group) {
      auto created = Learner::Create(RankRun(ranks, zero), model, metrics_, group);
      ASSERT_TRUE(created.ok()) << created.status();
      if (step > 0) {
        const absl::Status loaded = (*created)->LoadState(dir_);
        ASSERT_TRUE(loaded.ok()) << loaded;
      }
      for (int i = 0; i < 2; ++i, ++step)
        ASSERT_TRUE((*created)->Step(batches[static_cast<size_t>(step)], step + 1).ok());
      ASSERT_TRUE((*created)->SaveState(dir_).ok());
      auto next = TinyModel(2, at::kDouble);
      const at::NoGradGuard no_grad;
      for (size_t p = 0; p < next->parameters().size(); ++p)
        next->parameters()[p].copy_(model->parameters()[p]);
      model = next;
    });
  }
  EXPECT_LE(RelativeError(Flat(*model), uninterrupted), 1e-9);
}

TEST_F(RankLearnerTest, ACheckpointThatDoesNotFitIsRefusedOnAllRanksAlike) {
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/optimiser.json", "{}").ok());
  WithServingRanks(
      2, true,
      [&](RankGroup* group) {
        auto learner = Learner::Create(RankRun(2, 1), TinyModel(1), metrics_, group).value();
        EXPECT_EQ(learner->LoadState(dir_).code(), absl::StatusCode::kDataLoss);
      },
      [](RankGroup& group) { EXPECT_TRUE(absl::IsDataLoss(ServeRank(group))); });
}

TEST_F(RankLearnerTest, SharingMomentsAndGradientsSavesTheirMemory) {
  std::map<int, std::pair<double, double>> bytes;
  for (const int zero : {0, 1, 2}) {
    WithServingRanks(2, true, [&](RankGroup* group) {
      MetricsRegistry metrics;
      auto learner = Learner::Create(RankRun(2, zero), TinyModel(1), metrics, group).value();
      const auto read = [&](const char* kind) {
        return metrics.MakeGauge("tramontane_trainer_optimiser_bytes", {{"kind", kind}}).Value();
      };
      bytes[zero] = {read("moments"), read("gradients")};
    });
  }
  EXPECT_NEAR(bytes[1].first, bytes[0].first / 2, 256);
  EXPECT_EQ(bytes[1].second, bytes[0].second);
  EXPECT_NEAR(bytes[2].first, bytes[0].first / 2, 256);
  EXPECT_NEAR(bytes[2].second, bytes[0].second / 2, 256);
}

TEST_F(RankLearnerTest, ABatchWithFewerSamplesThanRanksIsTrainedOn) {
  auto batch = Batches(1, 6)[0];
  batch.resize(1);
  batch[0].rollouts.resize(2);
  batch[0].rollouts[0].verdict.score = 1;
  batch[0].rollouts[1].verdict.score = 0;
  at::Tensor alone;
  for (const int ranks : {1, 4}) {
    for (const int zero : {0, 2}) {
      if (ranks == 1 && zero > 0) continue;
      WithServingRanks(ranks, true, [&](RankGroup* group) {
        auto learner =
            Learner::Create(RankRun(ranks, zero), TinyModel(1, at::kDouble), metrics_, group)
                .value();
        ASSERT_FALSE(learner->Step(batch, 1).value().skipped);
        if (ranks == 1) alone = Flat(learner->model());
        EXPECT_LE(RelativeError(Flat(learner->model()), alone), 1e-9);
      });
    }
  }
}

TEST_F(RankLearnerTest, SftStepsAreSharedToo) {
  std::vector<SftExample> examples;
  for (int i = 0; i < 9; ++i) {
    SftExample example;
    for (int t = 0; t <= i % 3; ++t) example.prompt_tokens.push_back(1 + (i + t) % 11);
    for (int t = 0; t <= i % 5; ++t) example.completion_tokens.push_back((2 * i + t) % 12);
    examples.push_back(example);
  }
  at::Tensor alone;
  double held_out_alone = 0;
  for (const int ranks : {1, 3}) {
    RunConfig config = RankRun(ranks, 1);
    config.sft.data = "none";
    config.sft.steps = 3;
    WithServingRanks(ranks, false, [&](RankGroup* group) {
      auto created = Learner::CreateForSft(config, TinyModel(1, at::kDouble), metrics_, group);
      ASSERT_TRUE(created.ok()) << created.status();
      for (int64_t step = 1; step <= 3; ++step)
        ASSERT_TRUE((*created)->SftStep(examples, step).ok());
      const double held_out = (*created)->HeldOutLoss(examples).value();
      if (ranks == 1) alone = Flat((*created)->model()), held_out_alone = held_out;
      EXPECT_LE(RelativeError(Flat((*created)->model()), alone), 1e-9);
      EXPECT_NEAR(held_out, held_out_alone, 1e-9);
    });
  }
}

TEST_F(RankLearnerTest, AConfigurationThatOnlyAnotherRankRefusesEndsTheGroup) {
  RunConfig config = RankRun(2, 0);
  config.model.path = "";  // rank 0 has its model already
  WithServingRanks(
      2, true,
      [&](RankGroup* group) {
        const absl::Status status =
            Learner::Create(config, TinyModel(1), metrics_, group).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("model.path"));
      },
      [](RankGroup& group) { EXPECT_FALSE(ServeRank(group).ok()); });
}

TEST_F(RankLearnerTest, ALostRankFailsTheStepAndLeavesTheWeightsOfTheStepBefore) {
  const auto batches = Batches(2, 6);
  WithServingRanks(
      2, true,
      [&](RankGroup* group) {
        auto learner = Learner::Create(RankRun(2, 0), TinyModel(1), metrics_, group).value();
        ASSERT_TRUE(learner->Step(batches[0], 1).ok());
        const at::Tensor before = Flat(learner->model());
        const absl::Status status = learner->Step(batches[1], 2).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 is gone"));
        EXPECT_TRUE(at::equal(Flat(learner->model()), before));
      },
      [](RankGroup& group) {
        std::unique_ptr<Learner> learner;
        MetricsRegistry metrics;
        std::string bytes;
        ASSERT_TRUE(group.Broadcast(bytes, true).ok());
        const RankCommand create = DecodeRankCommand(bytes).value();
        learner =
            Learner::Create(ConfigFromJson(create.config).value(), TinyModel(9), metrics, &group)
                .value();
        ASSERT_TRUE(group.Broadcast(bytes, true).ok());
        ASSERT_TRUE(learner->Step(GroupsOf(DecodeRankCommand(bytes).value()).value(), 1).ok());
        ASSERT_TRUE(group.Broadcast(bytes, true).ok());  // hears of step 2, and dies
      });
}

TEST_F(RankLearnerTest, TrafficIsReportedAndCounted) {
  const auto batches = Batches(1, 6);
  WithServingRanks(2, true, [&](RankGroup* group) {
    auto learner = Learner::Create(RankRun(2, 0), TinyModel(1), metrics_, group).value();
    const StepReport report = learner->Step(batches[0], 1).value();
    const double gradient = 4.0 * static_cast<double>(Flat(learner->model()).numel());
    EXPECT_GE(report.metrics.at("rank_bytes"), gradient);
    EXPECT_LE(report.metrics.at("rank_bytes"), 1.5 * gradient);
    EXPECT_GT(report.metrics.at("rank_seconds"), 0);
    EXPECT_EQ(metrics_.MakeCounter("tramontane_trainer_rank_bytes_total").Value(),
              report.metrics.at("rank_bytes"));
    EXPECT_EQ(metrics_.MakeGauge("tramontane_trainer_ranks").Value(), 2);
  });
}

TEST_F(RankLearnerTest, ANumberOfRanksThatIsNotThereIsRefused) {
  const absl::Status status = Learner::Create(RankRun(2, 0), TinyModel(1), metrics_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("trainer.ranks is 2"));
}

}  // namespace
}  // namespace tramontane
