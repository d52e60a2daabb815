// Models that are not all alike inside, through everything a run does with one: save, load,
// generate by both engines, train, publish, generate again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "generator/bench.h"
#include "generator/fused_decoder.h"
#include "learner_fixture.h"
#include "model/checkpoint.h"
#include "model/score.h"
#include "model/weights/flatten.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/generator/engine_fixture.h"
#include "trainer/learner/learner.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;

class GenerateAndTrain : public ::testing::Test {
 protected:
  // A random model of this configuration, by way of a checkpoint.
  std::shared_ptr<Transformer> Stored(const Json& fields, uint64_t seed) {
    Json json = {{"vocab_size", 24},
                 {"hidden_size", 32},
                 {"intermediate_size", 64},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"head_dim", 8},
                 {"max_position_embeddings", 64},
                 {"initializer_range", 0.2}};
    json.update(fields);
    const auto config = ParseModelConfig(json);
    EXPECT_TRUE(config.ok()) << config.status();
    Transformer model(*config);
    model.InitRandom(seed);
    const std::string at = dir_ + "/" + std::to_string(seed);
    fs::create_directories(at);
    EXPECT_TRUE(SaveTransformer(model, at, at).ok());
    const auto loaded = LoadTransformer(at);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    const auto before = model.NamedWeights(), after = (*loaded)->NamedWeights();
    EXPECT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(before[i].first, after[i].first);
      EXPECT_TRUE(at::equal(before[i].second, after[i].second)) << before[i].first;
    }
    return *loaded;
  }

  const TempDir temp_;
  const std::string dir_ = temp_.path();
};

std::vector<std::vector<int32_t>> Prompts() {
  return {{3, 1, 4, 1, 5}, {9, 2, 6}, {5, 3, 5, 8, 9, 7, 9, 3, 2}, {11}};
}

SamplingParams Sampling() {
  SamplingParams sampling;
  sampling.max_new_tokens = 12;
  sampling.seed = 5;
  return sampling;
}

EngineOptions Options(const std::string& engine) {
  EngineOptions options;
  options.engine = engine;
  options.kv_block_tokens = 4;
  options.kv_blocks = 256;
  return options;
}

// With routes where the model has any. The fused engine is so small that sequences are set back:
// what it computes again is what it was. The other rounds by the batch, so that experts which are
// all but equal may change when it computes again, and is given room.
std::vector<Group> Generate(const std::shared_ptr<Transformer>& model,
                            const std::string& engine_name) {
  const bool crowded = engine_name == "fused";
  EngineOptions options = Options(engine_name);
  options.kv_blocks = crowded ? 40 : 256;
  options.prefill_chunk_tokens = 6;
  MetricsRegistry metrics;
  Collector collector;
  auto engine = Engine::Create(options, model, nullptr, metrics);
  EXPECT_TRUE(engine.ok()) << engine.status();
  for (size_t g = 0; g < Prompts().size(); ++g) {
    SampleRequest request = collector.Request(std::to_string(g), Prompts()[g], Sampling(), 8);
    request.sampling.seed += g;
    request.wants_routes = model->config().expert_layers() > 0;
    EXPECT_TRUE((*engine)->Submit(std::move(request)).ok());
  }
  EXPECT_TRUE(collector.WaitFinished(8 * Prompts().size()));
  EXPECT_EQ((*engine)->stats().preemptions > 0, crowded);
  EXPECT_GT((*engine)->stats().sibling_hit_tokens, 0u);
  std::vector<Group> groups(Prompts().size());
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].task.gid = std::to_string(g);
    groups[g].task.row.prompt_tokens = Prompts()[g];
    groups[g].task.sampling = Sampling();
    auto rollouts = collector.rollouts(std::to_string(g));
    for (auto& [sample, rollout] : rollouts) {
      rollout.verdict.status = VerdictStatus::kScored;
      rollout.verdict.score = static_cast<double>(
          std::count(rollout.tokens.begin(), rollout.tokens.end(), rollout.tokens.front()));
      groups[g].rollouts.push_back(std::move(rollout));
    }
  }
  return groups;
}

// Largest difference between what was reported while sampling and what `model` says of it.
double WorstGap(Transformer& model, const std::vector<Group>& groups) {
  double worst = 0;
  for (const Group& group : groups) {
    for (const Rollout& rollout : group.rollouts) {
      std::vector<int32_t> tokens = group.task.row.prompt_tokens;
      tokens.insert(tokens.end(), rollout.tokens.begin(), rollout.tokens.end());
      const std::vector<float> scores = ScoreTokens(model, tokens);
      const size_t first = group.task.row.prompt_tokens.size() - 1;
      for (size_t t = 0; t < rollout.tokens.size(); ++t)
        worst = std::max(worst, std::abs(double{scores[first + t]} - rollout.logprobs[t]));
    }
  }
  return worst;
}

RunConfig SmallRun() {
  RunConfig config = testing::TinyRun();
  config.trainer.threads = 2;
  return config;
}

// Every parameter has moved.
void ExpectAllMoved(const Transformer& now, const Transformer& then) {
  const auto a = now.NamedWeights(), b = then.NamedWeights();
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_FALSE(at::equal(a[i].second, b[i].second)) << a[i].first;
}

// Weights of `learner` through an engine's two-phase swap; the engine then scores as they do.
void ExpectPublishes(const Learner& learner, const std::shared_ptr<Transformer>& served,
                     const std::string& engine_name) {
  MetricsRegistry metrics;
  auto engine = Engine::Create(Options(engine_name), served, nullptr, metrics);
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<char> payload;
  WeightManifest manifest = learner.Snapshot(1, payload);
  manifest.trainer_epoch = 1;
  ASSERT_FALSE(manifest.probe_tokens.empty());
  const absl::Status staged = (*engine)->StageWeights(manifest, payload);
  ASSERT_TRUE(staged.ok()) << staged;
  const auto committed = (*engine)->CommitWeights(1, 1);
  ASSERT_TRUE(committed.ok()) << committed.status();
  EXPECT_LT(committed->probe_gap, 1e-4);
}

TEST_F(GenerateAndTrain, AnAttentionFreeLayerRoundTrips) {
  const Json fields = {{"model_type", "llama"},
                       {"num_hidden_layers", 4},
                       {"layers", Json::parse(R"([{}, {"num_key_value_heads": 0},
                            {"intermediate_size": 0},
                            {"num_key_value_heads": 4, "intermediate_size": 40}])")}};
  const auto model = Stored(fields, 1), untrained = Stored(fields, 1);
  for (const std::string name :
       {"model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.q_proj.weight",
        "model.layers.2.mlp.up_proj.weight"}) {
    for (const auto& [held, tensor] : model->NamedWeights()) EXPECT_NE(held, name);
  }
  MetricsRegistry metrics;
  ASSERT_TRUE(FusedDecoder::Create(Options("fused"), *model).ok());  // and no fallback
  const auto groups = Generate(model, "fused");
  EXPECT_LT(WorstGap(*model, groups), 1e-4);
  EXPECT_LT(WorstGap(*model, Generate(model, "torch")), 1e-4);
  auto learner = Learner::Create(SmallRun(), model, metrics).value();
  const auto report = learner->Step(groups, 1);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->skipped);
  EXPECT_GT(report->logprob_gap_tokens, 100);
  EXPECT_LT(report->logprob_gap_max, 1e-4);
  ExpectAllMoved(*model, *untrained);
  for (const std::string engine : {"fused", "torch"})
    ExpectPublishes(*learner, Stored(fields, 1), engine);
}

Json Mixture(const std::string& family) {
  Json fields = {{"model_type", family},   {"num_hidden_layers", 3},
                 {"num_local_experts", 6}, {"num_experts_per_tok", 2},
                 {"norm_topk_prob", true}, {"moe_intermediate_size", 20},
                 {"intermediate_size", 24}};
  if (family == "qwen3_moe") fields["mlp_only_layers"] = {1};
  return fields;
}

// Two groups of three experts whom the routers can hardly tell apart, though they are not alike:
// which two of the three a token goes through is decided by what is as small as `noise`.
void TieExperts(Transformer& model, double noise, uint64_t seed) {
  const at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (const auto& [name, tensor] : model.NamedWeights()) {
    if (name.find("gate.weight") == std::string::npos) continue;
    for (int64_t e = 0; e < tensor.size(0); ++e) {
      if (e % 3 != 0) tensor[e].copy_(tensor[e - e % 3]);
    }
    tensor.add_(at::normal(0.0, noise, tensor.sizes(), generator));
  }
}

TEST_F(GenerateAndTrain, MixturesOfExpertsRoundTrip) {
  uint64_t seed = 10;
  for (const std::string family : {"qwen3_moe", "mixtral"}) {
    const auto model = Stored(Mixture(family), ++seed), untrained = Stored(Mixture(family), seed);
    MetricsRegistry metrics;
    ASSERT_TRUE(FusedDecoder::Create(Options("fused"), *model).ok());
    const auto groups = Generate(model, "fused");
    EXPECT_LT(WorstGap(*model, groups), 1e-4) << family;
    EXPECT_LT(WorstGap(*model, Generate(model, "torch")), 1e-4) << family;
    auto learner = Learner::Create(SmallRun(), model, metrics).value();
    const auto report = learner->Step(groups, 1);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_LT(report->logprob_gap_max, 1e-4);
    EXPECT_FALSE(report->metrics.contains("router_disagreement"));
    ExpectAllMoved(*model, *untrained);
    for (const std::string engine : {"fused", "torch"})
      ExpectPublishes(*learner, Stored(Mixture(family), seed), engine);
  }
}

TEST_F(GenerateAndTrain, ReplayedRoutesMakeTheTrainerScoreAsTheGeneratorDid) {
  for (const std::string family : {"qwen3_moe", "mixtral"}) {
    for (const std::string engine : {"fused", "torch"}) {
      const auto served = Stored(Mixture(family), 21);
      TieExperts(*served, 2e-6, 1);
      const auto groups = Generate(served, engine);
      // The trainer's routers differ by less than any log-probability shows, and choose otherwise.
      const auto step = [&](bool replay) {
        const auto model = Stored(Mixture(family), 21);
        TieExperts(*model, 2e-6, 2);
        MetricsRegistry metrics;
        RunConfig config = SmallRun();
        config.trainer.router_replay = replay;
        auto learner = Learner::Create(config, model, metrics).value();
        auto report = learner->Step(groups, 1);
        EXPECT_TRUE(report.ok()) << report.status();
        EXPECT_EQ(metrics.Render().find("tramontane_trainer_router_disagreement 0\n") ==
                      std::string::npos,
                  replay);
        return *std::move(report);
      };
      const StepReport free = step(false), replayed = step(true);
      EXPECT_GT(free.logprob_gap_max, 0.05) << family << " " << engine;
      EXPECT_GT(replayed.logprob_gap_tokens, 100);
      EXPECT_LT(replayed.logprob_gap_max, 1e-4) << family << " " << engine;
      EXPECT_GT(replayed.metrics.at("router_disagreement"), 0.3);
      EXPECT_LT(replayed.metrics.at("router_disagreement"), 1);
      EXPECT_GT(replayed.grad_norm, 0);
    }
  }
}

TEST_F(GenerateAndTrain, ReplayIsRefusedWhereThereIsNothingToReplay) {
  RunConfig config = SmallRun();
  config.trainer.router_replay = true;
  MetricsRegistry metrics;
  const auto dense = Learner::Create(config, testing::TinyModel(1), metrics);
  EXPECT_EQ(dense.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(dense.status().message().find("trainer.router_replay"), std::string::npos);
  EXPECT_TRUE(Learner::CreateForSft(config, testing::TinyModel(1), metrics).ok());

  auto engine = Engine::Create(Options("fused"), testing::TinyModel(1), nullptr, metrics);
  ASSERT_TRUE(engine.ok());
  Collector collector;
  SampleRequest request = collector.Request("a", {1, 2}, Sampling());
  request.wants_routes = true;
  EXPECT_EQ((*engine)->Submit(request).code(), absl::StatusCode::kInvalidArgument);

  const auto model = Stored(Mixture("mixtral"), 30);
  auto learner = Learner::Create(config, model, metrics).value();
  auto groups = Generate(model, "fused");
  EXPECT_TRUE(learner->Check(groups[0]).ok());
  groups[0].rollouts[1].routes.clear();
  EXPECT_EQ(learner->Check(groups[0]).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(learner->Step(groups, 1).status().code(), absl::StatusCode::kInvalidArgument);
}

// Every token follows from the one before.
std::vector<SftExample> Chains(int count) {
  std::vector<SftExample> examples(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    int32_t token = i % 24;
    for (int t = 0; t < 14; ++t, token = (token * 5 + 7) % 24)
      (t < 1 + i % 3 ? examples[i].prompt_tokens : examples[i].completion_tokens).push_back(token);
  }
  return examples;
}

double AcceptedShare(const std::shared_ptr<Transformer>& model) {
  EngineOptions options = Options("fused");
  options.mtp_draft = true;
  std::vector<Ask> asks;
  for (int32_t i = 0; i < 16; ++i) {
    Ask ask{{i}, Sampling(), 2};
    ask.sampling.seed = static_cast<uint64_t>(i);
    asks.push_back(ask);
  }
  EngineStats stats;
  RunAll(options, model, asks, &stats);
  EXPECT_GT(stats.drafted_tokens, 100u);
  return static_cast<double>(stats.accepted_draft_tokens) /
         static_cast<double>(stats.drafted_tokens);
}

TEST_F(GenerateAndTrain, TheHeadLearnsToForeseeAndLeavesThePolicyAlone) {
  const Json fields = {
      {"model_type", "mimo"}, {"num_hidden_layers", 2}, {"num_nextn_predict_layers", 1}};
  const auto model = Stored(fields, 40), alone = Stored(fields, 40);
  MetricsRegistry metrics;
  RunConfig config = SmallRun();
  config.sft.learning_rate = 1e-2;
  config.sft.max_grad_norm = 1e9;  // the head's share in the norm must not scale the policy's
  config.sft.warmup_steps = 0;
  auto without = Learner::CreateForSft(config, alone, metrics).value();
  config.trainer.mtp_weight = 0.3;
  auto learner = Learner::CreateForSft(config, model, metrics).value();
  const double before = AcceptedShare(model);
  double first = 0, last = 0;
  for (int64_t step = 1; step <= 80; ++step) {
    const auto report = learner->SftStep(Chains(48), step);
    ASSERT_TRUE(report.ok()) << report.status();
    (step == 1 ? first : last) = report->metrics.at("mtp_loss");
    ASSERT_TRUE(without->SftStep(Chains(48), step).ok());
  }
  EXPECT_GT(first, 2.5);  // log 24 is 3.2
  EXPECT_LT(last, 0.5);
  EXPECT_LT(before, 0.3);
  EXPECT_GT(AcceptedShare(model), 0.7);
  const auto trained = model->NamedWeights(), other = alone->NamedWeights();
  for (size_t i = 0; i < trained.size(); ++i) {
    const bool head = trained[i].first.find("mtp_layers") != std::string::npos;
    EXPECT_EQ(at::equal(trained[i].second, other[i].second), !head) << trained[i].first;
  }
  EXPECT_NE(metrics.Render().find("tramontane_trainer_mtp_loss"), std::string::npos);
  for (const std::string engine : {"fused", "torch"})
    ExpectPublishes(*learner, Stored(fields, 40), engine);
}

TEST_F(GenerateAndTrain, TheHeadsLossDoesNotDependOnMicrobatches) {
  const Json fields = {
      {"model_type", "mimo"}, {"num_hidden_layers", 2}, {"num_nextn_predict_layers", 1}};
  const auto sampler = Stored(fields, 41);
  const auto groups = Generate(sampler, "fused");
  std::vector<double> losses, norms;
  for (const int32_t tokens : {100000, 40, 1}) {
    RunConfig config = SmallRun();
    config.trainer.mtp_weight = 0.5;
    config.trainer.microbatch_tokens = tokens;
    MetricsRegistry metrics;
    const auto model = Stored(fields, 41);
    auto learner = Learner::Create(config, model, metrics).value();
    const auto report = learner->Step(groups, 1);
    ASSERT_TRUE(report.ok()) << report.status();
    losses.push_back(report->metrics.at("mtp_loss"));
    norms.push_back(report->grad_norm);
  }
  EXPECT_GT(losses[0], 1);
  for (size_t i = 1; i < losses.size(); ++i) {
    EXPECT_NEAR(losses[i], losses[0], 1e-5);
    EXPECT_NEAR(norms[i], norms[0], 1e-5 * norms[0]);
  }
}

TEST_F(GenerateAndTrain, TheHeadsLossIsRefusedWithoutTheHead) {
  RunConfig config = SmallRun();
  config.trainer.mtp_weight = 0.1;
  MetricsRegistry metrics;
  const auto learner = Learner::Create(config, testing::TinyModel(1), metrics);
  EXPECT_EQ(learner.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(learner.status().message().find("trainer.mtp_weight"), std::string::npos);
}

// The bytes of a step are those of the experts that its batch goes through.
TEST_F(GenerateAndTrain, ABenchmarkCountsTheExpertsOfTheBatch) {
  const auto model = Stored(Mixture("qwen3_moe"), 1);  // two layers of six experts, two a token
  BenchOptions options;
  options.batches = {1, 16};
  options.prompt_tokens = 4;
  options.new_tokens = 12;
  options.rounds = 1;
  for (const std::string dtype : {"float32", "int8"}) {
    options.engine.weights_dtype = dtype;
    const auto report = BenchGenerate(dir_ + "/1", options);
    ASSERT_TRUE(report.ok()) << report.status();
    const Json &alone = (*report)["runs"][0], &many = (*report)["runs"][1];
    EXPECT_EQ(alone["experts_per_layer"], 2);
    const double touched = many["experts_per_layer"];
    EXPECT_GT(touched, 3);
    EXPECT_LE(touched, 6);
    const double context = 4 + 12 / 2.0, kv = context * 2 * 3 * 2 * 8 * 4;  // of one sequence
    const double weight = dtype == "int8" ? 1 : 4, expert = 3 * 20 * 32 * weight;
    EXPECT_NEAR(many["step_bytes"].get<double>() - alone["step_bytes"].get<double>(),
                2 * (touched - 2) * expert + 15 * kv, 1)
        << dtype;
    const ModelConfig& config = model->config();
    const double routers = 2 * 6 * 32, head = 24 * 32;
    EXPECT_NEAR(alone["step_bytes"].get<double>(),
                (static_cast<double>(config.matrix_weights()) - routers) * weight +
                    4 * (routers + head) + kv,
                1)
        << dtype;
  }
}

// Paused under one version of the weights, and gone on with under the next.
TEST_F(GenerateAndTrain, AResponseThatIsTakenUpKeepsTheRoutesItsFirstPartWasSampledBy) {
  const Json fields = Mixture("qwen3_moe");
  MetricsRegistry metrics;
  auto engine = Engine::Create(Options("fused"), Stored(fields, 1), nullptr, metrics).value();
  const auto run = [&](const OpenResponse& begun, int32_t draws) {
    std::promise<OpenResponse> ended;
    SampleRequest request;
    request.id = "a";
    request.prompt_tokens = Prompts()[0];
    request.sampling = Sampling();
    request.sampling.ignore_eos = true;
    request.wants_routes = true;
    if (begun.draws > 0) request.begun = std::make_shared<const OpenResponse>(begun);
    request.pause.after_draws = draws;
    request.on_open = [&ended](OpenResponse open) { ended.set_value(std::move(open)); };
    const absl::Status submitted = engine->Submit(std::move(request));
    EXPECT_TRUE(submitted.ok()) << submitted;
    return submitted.ok() ? ended.get_future().get() : OpenResponse();
  };
  const OpenResponse first = run({}, 5);
  const auto later = Stored(fields, 2);
  std::vector<char> payload;
  WeightManifest manifest = FlattenWeights(*later, 1, payload);
  manifest.trainer_epoch = 1;
  manifest.probe_tokens = Prompts()[2];
  manifest.probe_logprobs = ScoreTokens(*later, manifest.probe_tokens);
  ASSERT_TRUE(engine->StageWeights(manifest, payload).ok());
  ASSERT_TRUE(engine->CommitWeights(1, 1).ok());

  const size_t route = static_cast<size_t>(later->config().route_size());
  const std::vector<uint8_t>& kept = first.rollout.routes;
  ASSERT_EQ(kept.size(), (Prompts()[0].size() + 5 - 1) * route);
  const OpenResponse whole = run(first, INT32_MAX);
  ASSERT_EQ(whole.rollout.tokens.size(), 12u);
  ASSERT_EQ(whole.rollout.routes.size(), (Prompts()[0].size() + 12 - 1) * route);
  EXPECT_TRUE(std::equal(kept.begin(), kept.end(), whole.rollout.routes.begin()));
  EXPECT_EQ(std::ranges::count(whole.rollout.routes, kNoRoute), 0);

  OpenResponse forgotten = first;
  forgotten.rollout.routes.clear();
  const OpenResponse again = run(forgotten, INT32_MAX);
  EXPECT_EQ(again.rollout.tokens, whole.rollout.tokens);
  EXPECT_FALSE(std::equal(kept.begin(), kept.end(), again.rollout.routes.begin()))
      << "the other weights choose alike: this test says nothing";

  OpenResponse wrong = first;
  wrong.rollout.routes.pop_back();
  SampleRequest request;
  request.id = "b";
  request.prompt_tokens = Prompts()[0];
  request.sampling = Sampling();
  request.begun = std::make_shared<const OpenResponse>(wrong);
  request.on_open = [](OpenResponse) {};
  EXPECT_TRUE(absl::IsInvalidArgument(engine->Submit(std::move(request))));
}

}  // namespace
}  // namespace tramontane
