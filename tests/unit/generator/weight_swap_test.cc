// New weights while sequences go on: stamps, keys and values kept, fences, and refusal of what is
// wrong.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <future>
#include <limits>
#include <thread>

#include "generator/engine.h"
#include "generator/fused_decoder.h"
#include "generator/intra_op_threads.h"
#include "model/weights/flatten.h"
#include "tests/unit/generator/engine_fixture.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

SamplingParams Endless(int32_t max_new_tokens, uint64_t seed = 1) {
  SamplingParams sampling;
  sampling.max_new_tokens = max_new_tokens;
  sampling.seed = seed;
  sampling.ignore_eos = true;
  return sampling;
}

struct Payload {
  WeightManifest manifest;
  std::vector<char> bytes;
};

// The weights of `model` as a version, with a probe of its own scores.
Payload Version(Transformer& model, int64_t version, int64_t epoch = 1) {
  Payload payload;
  payload.manifest = FlattenWeights(model, version, payload.bytes);
  payload.manifest.trainer_epoch = epoch;
  payload.manifest.probe_tokens = {5, 9, 77, 3, 200, 41};
  for (size_t i = 1; i < payload.manifest.probe_tokens.size(); ++i) {
    const auto& tokens = payload.manifest.probe_tokens;
    const std::vector<float> scores = FullForward(model, {tokens.begin(), tokens.begin() + i});
    payload.manifest.probe_logprobs.push_back(scores[tokens[i]]);
  }
  return payload;
}

class WeightSwap : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { Start({}); }

  void Start(EngineOptions options) {
    engine_.reset();
    model_ = TinyModel(20);
    options.engine = GetParam();
    auto engine = Engine::Create(options, model_, nullptr, metrics_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  absl::StatusOr<CommitResult> Swap(Payload payload) {
    const int64_t version = payload.manifest.version, epoch = payload.manifest.trainer_epoch;
    const absl::Status staged =
        engine_->StageWeights(std::move(payload.manifest), std::move(payload.bytes));
    if (!staged.ok()) return staged;
    return engine_->CommitWeights(version, epoch);
  }

  // Swaps while the one request that streams is held after `held` tokens: each time the commit has
  // not come through, the request gets one token further.
  absl::StatusOr<CommitResult> SwapAfter(size_t held, Payload payload) {
    const int64_t version = payload.manifest.version, epoch = payload.manifest.trainer_epoch;
    collector_.AllowStreamed(held);
    EXPECT_TRUE(collector_.WaitStreamed(held));
    const absl::Status staged =
        engine_->StageWeights(std::move(payload.manifest), std::move(payload.bytes));
    if (!staged.ok()) return staged;
    // The engine looks for a commit between two tokens, so one token is enough once it is asked
    // for.
    std::promise<void> asking;
    auto result = std::async(std::launch::async, [&] {
      asking.set_value();
      return engine_->CommitWeights(version, epoch);
    });
    asking.get_future().wait();
    while (result.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready)
      collector_.AllowStreamed(++held);
    return result.get();
  }

  void TearDown() override { collector_.AllowStreamed(SIZE_MAX); }

  absl::Status Submit(const std::string& id, const SamplingParams& sampling, bool stream = false) {
    return engine_->Submit(collector_.Request(id, prompt_, sampling, 1, stream));
  }

  const std::vector<int32_t> prompt_ = {10, 20, 30, 40, 50};
  std::shared_ptr<Transformer> model_ = TinyModel(20);
  std::shared_ptr<Transformer> first_ = TinyModel(20);  // what model_ starts as
  std::shared_ptr<Transformer> second_ = TinyModel(21);
  std::shared_ptr<Transformer> third_ = TinyModel(22);
  MetricsRegistry metrics_;
  Collector collector_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(WeightSwap, StampsEveryTokenAndKeepsTheCache) {
  collector_.AllowStreamed(1);
  ASSERT_TRUE(Submit("a", Endless(400), true).ok());
  const auto one = SwapAfter(10, Version(*second_, 1));
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->version, 1);
  EXPECT_LT(one->probe_gap, 1e-4);
  EXPECT_GT(one->pause_seconds, 0);
  const size_t streamed = collector_.chunks("a").size();
  const auto two = SwapAfter(streamed + 10, Version(*third_, 2));
  ASSERT_TRUE(two.ok()) << two.status();
  collector_.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector_.WaitFinished(1));

  const Rollout rollout = collector_.rollouts("a").at(0);
  EXPECT_EQ(rollout.finish_reason, FinishReason::kLength);
  ASSERT_EQ(rollout.spans.size(), 3u);
  std::vector<int64_t> version_of_token;
  for (const VersionSpan& span : rollout.spans)
    version_of_token.insert(version_of_token.end(), span.count, span.version);
  ASSERT_EQ(version_of_token.size(), rollout.tokens.size());
  EXPECT_EQ(version_of_token.front(), 0);
  EXPECT_EQ(version_of_token.back(), 2);

  // Each token's log-probability is its version's, given keys and values as older versions left
  // them: the step that draws token i also computes those of the token before it.
  const c10::InferenceMode inference;
  Transformer* models[] = {first_.get(), second_.get(), third_.get()};
  GrowingAttention attention;
  std::vector<int32_t> input = prompt_;
  int64_t position = 0;
  for (size_t i = 0; i < rollout.tokens.size(); ++i) {
    Transformer& model = *models[version_of_token[i]];
    const int64_t size = static_cast<int64_t>(input.size());
    const at::Tensor hidden_TD = model.Forward(
        at::tensor(input, at::kLong), at::arange(position, position + size, at::kLong), attention);
    const at::Tensor scores = model.Logits(hidden_TD.narrow(0, size - 1, 1)).log_softmax(-1)[0];
    ASSERT_NEAR(rollout.logprobs[i], scores[rollout.tokens[i]].item<float>(), 1e-5) << i;
    position += size;
    input = {rollout.tokens[i]};
  }
}

TEST_P(WeightSwap, ACorruptPayloadIsRefusedAndTheOldWeightsServeOn) {
  ASSERT_TRUE(Submit("before", Endless(20)).ok());
  ASSERT_TRUE(collector_.WaitFinished(1));
  Payload corrupt = Version(*second_, 1);
  corrupt.bytes[corrupt.bytes.size() / 2] ^= 1;
  const absl::StatusOr<CommitResult> result = Swap(std::move(corrupt));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss) << result.status();
  Payload missing = Version(*second_, 1);
  missing.manifest.tensors.pop_back();
  EXPECT_FALSE(Swap(std::move(missing)).ok());
  EXPECT_EQ(engine_->CommitWeights(1, 1).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(engine_->stats().healthy);
  EXPECT_EQ(engine_->stats().version, 0);
  ASSERT_TRUE(Submit("after", Endless(20)).ok());
  ASSERT_TRUE(collector_.WaitFinished(2));
  EXPECT_EQ(collector_.rollouts("after").at(0).tokens, collector_.rollouts("before").at(0).tokens);
}

TEST_P(WeightSwap, AProbeThatDisagreesStopsServiceUntilAGoodVersionCame) {
  collector_.AllowStreamed(1);
  ASSERT_TRUE(Submit("running", Endless(500), true).ok());
  Payload wrong = Version(*second_, 1);
  wrong.manifest.probe_logprobs[2] += 0.1f;
  EXPECT_EQ(SwapAfter(5, std::move(wrong)).status().code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(collector_.WaitFinished(1));
  EXPECT_EQ(collector_.rollouts("running").at(0).finish_reason, FinishReason::kAborted);
  EXPECT_FALSE(engine_->stats().healthy);
  EXPECT_THAT(engine_->stats().unhealthy_reason, HasSubstr("probe"));
  EXPECT_EQ(Submit("refused", Endless(5)).code(), absl::StatusCode::kUnavailable);

  ASSERT_TRUE(Swap(Version(*second_, 1)).ok());
  EXPECT_TRUE(engine_->stats().healthy);
  ASSERT_TRUE(Submit("served", Endless(5)).ok());
  ASSERT_TRUE(collector_.WaitFinished(2));
  EXPECT_EQ(collector_.rollouts("served").at(0).spans, (std::vector<VersionSpan>{{1, 5}}));
}

TEST_P(WeightSwap, OldEpochsAndVersionsAreFencedOff) {
  ASSERT_TRUE(Swap(Version(*second_, 7, 3)).ok());
  EXPECT_EQ(Swap(Version(*third_, 8, 2)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Swap(Version(*third_, 7, 3)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Swap(Version(*third_, 6, 3)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(engine_->stats().version, 7);
  // A restarted trainer resumes from its checkpoint.
  ASSERT_TRUE(Swap(Version(*third_, 5, 4)).ok());
  EXPECT_EQ(engine_->stats().version, 5);
  EXPECT_EQ(Swap(Version(*second_, 9, 3)).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(WeightSwap, GoingBackEndsSamplesOfTheForgottenVersions) {
  ASSERT_TRUE(Swap(Version(*second_, 7, 3)).ok());
  collector_.AllowStreamed(1);
  ASSERT_TRUE(Submit("a", Endless(500), true).ok());
  ASSERT_TRUE(SwapAfter(5, Version(*third_, 5, 4)).ok());
  ASSERT_TRUE(collector_.WaitFinished(1));
  EXPECT_EQ(collector_.rollouts("a").at(0).finish_reason, FinishReason::kAborted);
}

TEST_P(WeightSwap, CommittingTheVersionInUseAgainAnswersTheSame) {
  const auto first = Swap(Version(*second_, 1));
  ASSERT_TRUE(first.ok());
  const auto again = engine_->CommitWeights(1, 1);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->pause_seconds, first->pause_seconds);
}

TEST_P(WeightSwap, ACommitThatTookTooLongIsWaitedForByWhoeverAsksAgain) {
  Start({.commit_timeout_s = 0.05});
  collector_.AllowStreamed(5);
  ASSERT_TRUE(Submit("a", Endless(100), true).ok());
  ASSERT_TRUE(collector_.WaitStreamed(5));  // the engine's step does not end
  Payload one = Version(*second_, 1), two = Version(*third_, 2);
  ASSERT_TRUE(engine_->StageWeights(one.manifest, one.bytes).ok());
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(engine_->CommitWeights(1, 1).status().code(), absl::StatusCode::kDeadlineExceeded);
  ASSERT_TRUE(engine_->StageWeights(two.manifest, two.bytes).ok());
  EXPECT_EQ(engine_->CommitWeights(2, 1).status().code(), absl::StatusCode::kDeadlineExceeded);
  collector_.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector_.WaitFinished(1));
  const auto finished = engine_->CommitWeights(1, 1);  // came through meanwhile
  ASSERT_TRUE(finished.ok()) << finished.status();
  EXPECT_EQ(finished->version, 1);
  EXPECT_EQ(engine_->stats().version, 1);
  absl::StatusOr<CommitResult> next = engine_->CommitWeights(2, 1);
  for (int i = 0; i < 1000 && absl::IsDeadlineExceeded(next.status()); ++i)
    next = engine_->CommitWeights(2, 1);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->version, 2);
}

TEST_P(WeightSwap, NoPromptIsSharedAcrossVersions) {
  EngineOptions options;
  options.kv_block_tokens = 4;
  Start(options);
  const std::vector<int32_t> prompt(30, 7);
  const auto run = [&](const std::string& id) {
    EXPECT_TRUE(engine_->Submit(collector_.Request(id, prompt, Endless(20))).ok());
  };
  run("old");
  ASSERT_TRUE(collector_.WaitFinished(1));
  run("again");
  ASSERT_TRUE(collector_.WaitFinished(2));
  const uint64_t hits = engine_->stats().cache_hit_tokens;
  EXPECT_EQ(hits, 28u);
  ASSERT_TRUE(Swap(Version(*second_, 1)).ok());
  EXPECT_EQ(engine_->stats().kv_blocks_kept, 0);
  run("new");
  ASSERT_TRUE(collector_.WaitFinished(3));
  EXPECT_EQ(engine_->stats().cache_hit_tokens, hits);
  const Rollout rollout = collector_.rollouts("new").at(0);
  std::vector<int32_t> tokens = prompt;
  for (size_t i = 0; i < rollout.tokens.size(); ++i) {
    ASSERT_NEAR(rollout.logprobs[i], FullForward(*second_, tokens)[rollout.tokens[i]], 1e-5) << i;
    tokens.push_back(rollout.tokens[i]);
  }
}

TEST_P(WeightSwap, KeysAreComputedAnewByTheNewWeightsWhereThatIsAskedFor) {
  EngineOptions options;
  options.kv_block_tokens = 4;
  options.recompute_kv_on_swap = true;
  options.prefill_chunk_tokens = 7;
  Start(options);
  collector_.AllowStreamed(1);
  ASSERT_TRUE(engine_->Submit(collector_.Request("a", prompt_, Endless(60), 3, true)).ok());
  ASSERT_TRUE(SwapAfter(60, Version(*second_, 1)).ok());
  ASSERT_TRUE(SwapAfter(collector_.chunks("a").size() + 30, Version(*third_, 2)).ok());
  collector_.AllowStreamed(SIZE_MAX);
  ASSERT_TRUE(collector_.WaitFinished(3));
  Transformer* models[] = {first_.get(), second_.get(), third_.get()};
  for (const auto& [sample, rollout] : collector_.rollouts("a")) {
    ASSERT_EQ(rollout.tokens.size(), 60u);
    ASSERT_EQ(rollout.spans.size(), 3u) << sample;
    std::vector<int32_t> tokens = prompt_;
    size_t i = 0;
    for (const VersionSpan& span : rollout.spans) {
      for (const size_t end = i + static_cast<size_t>(span.count); i < end; ++i) {
        const std::vector<float> fresh = FullForward(*models[span.version], tokens);
        ASSERT_NEAR(rollout.logprobs[i], fresh[rollout.tokens[i]], 1e-5) << sample << " " << i;
        tokens.push_back(rollout.tokens[i]);
      }
    }
    EXPECT_EQ(i, rollout.tokens.size());
  }
}

TEST_P(WeightSwap, NonFiniteLogitsEndTheSampleWithAnErrorAndStopService) {
  auto broken = TinyModel(20);
  {
    const at::NoGradGuard no_grad;
    broken->NamedWeights().back().second.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  Payload payload;
  payload.manifest = FlattenWeights(*broken, 1, payload.bytes);
  payload.manifest.trainer_epoch = 1;
  ASSERT_TRUE(Swap(std::move(payload)).ok());  // no probe: nothing to notice it by
  ASSERT_TRUE(Submit("a", Endless(5)).ok());
  ASSERT_TRUE(collector_.WaitFinished(1));
  EXPECT_EQ(collector_.rollouts("a").at(0).finish_reason, FinishReason::kError);
  for (int i = 0; i < 1000 && engine_->stats().healthy; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_THAT(engine_->stats().unhealthy_reason, HasSubstr("non-finite logits"));
  EXPECT_EQ(Submit("b", Endless(5)).code(), absl::StatusCode::kUnavailable);
}

TEST(RoundedWeights, PassAProbeThatAllowsForTheirRoundingAndFailAnothersProbe) {
  for (const char* dtype : {"bfloat16", "int8"}) {
    MetricsRegistry metrics;
    EngineOptions options;
    options.weights_dtype = dtype;
    const auto model = TinyModel(20, 0.05), second = TinyModel(21, 0.05),
               other = TinyModel(22, 0.2);
    auto engine = Engine::Create(options, model, nullptr, metrics);
    ASSERT_TRUE(engine.ok()) << engine.status();
    Payload good = Version(*second, 1);
    ASSERT_TRUE((*engine)->StageWeights(good.manifest, good.bytes).ok());
    const auto committed = (*engine)->CommitWeights(1, 1);
    ASSERT_TRUE(committed.ok()) << committed.status();
    EXPECT_GT(committed->probe_gap, 1e-5) << dtype;
    Payload wrong = Version(*second, 2);
    wrong.manifest.probe_logprobs = Version(*other, 2).manifest.probe_logprobs;
    ASSERT_TRUE((*engine)->StageWeights(wrong.manifest, wrong.bytes).ok());
    EXPECT_EQ((*engine)->CommitWeights(2, 1).status().code(), absl::StatusCode::kDataLoss) << dtype;
  }
}

TEST(FusedWeights, AreProbedBeforeTheSwapAndNotInIt) {
  const auto model = TinyModel(20), second = TinyModel(21);
  auto decoder = FusedDecoder::Create({}, *model);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  Payload payload = Version(*second, 1);
  StagedWeights staged{payload.manifest, payload.bytes, nullptr, {}};
  ASSERT_TRUE((*decoder)->Prepare(staged).ok());
  ASSERT_TRUE(staged.probe_scores.has_value());
  for (size_t i = 0; i < staged.probe_scores->size(); ++i)
    EXPECT_NEAR((*staged.probe_scores)[i], payload.manifest.probe_logprobs[i], 1e-5) << i;
  const std::vector<float> ahead = *staged.probe_scores;
  ASSERT_TRUE((*decoder)->Apply(staged).ok());
  EXPECT_EQ(*(*decoder)->Score(payload.manifest.probe_tokens), ahead);  // to the last bit
}

INSTANTIATE_TEST_SUITE_P(Engines, WeightSwap, ::testing::Values("fused", "torch"),
                         [](const auto& info) { return std::string(info.param); });

// Where experts are all but equally likely, one probe token may differ under the right weights.
TEST(MixtureSwap, AProbeIsJudgedByItsMedianToken) {
  const auto mixture = TinyMixture(3);
  const auto commit = [](const std::shared_ptr<Transformer>& model, size_t wrong_tokens) {
    MetricsRegistry metrics;
    auto engine = Engine::Create({}, model, nullptr, metrics);
    EXPECT_TRUE(engine.ok()) << engine.status();
    Payload version = Version(*model, 1);
    for (size_t i = 0; i < wrong_tokens; ++i) version.manifest.probe_logprobs[i] += 1;
    EXPECT_TRUE((*engine)->StageWeights(version.manifest, version.bytes).ok());
    return (*engine)->CommitWeights(1, 1).status();
  };
  EXPECT_TRUE(commit(mixture, 0).ok());
  EXPECT_TRUE(commit(mixture, 1).ok());
  EXPECT_EQ(commit(mixture, 3).code(), absl::StatusCode::kDataLoss);  // of five
  EXPECT_EQ(commit(TinyModel(20), 1).code(), absl::StatusCode::kDataLoss);
}

TEST(IntraOpThreads, OfOneThreadLeaveOthersAlone) {
  const int before = at::get_num_threads();
  int inside = 0, later = 0;
  std::thread([&] {
    SetIntraOpThreadsHere(before + 3);
    inside = at::get_num_threads();
  }).join();
  std::thread([&] { later = at::get_num_threads(); }).join();
  EXPECT_EQ(inside, before + 3);
  EXPECT_EQ(at::get_num_threads(), before);
  EXPECT_EQ(later, before);
}

}  // namespace
}  // namespace tramontane
