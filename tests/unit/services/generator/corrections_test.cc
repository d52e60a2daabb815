// Two layers of samples: what a correction is asked with, what comes of it, and who hears of it.
#include "services/generator/corrections.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "common/layers.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using ::testing::ElementsAre;

class CorrectionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    Make({"Again:"});
  }

  void Make(const std::vector<std::string>& phrases) {
    auto runner = CorrectionRunner::Create(
        phrases,
        {.submit = [this](SampleRequest request) { return Submit(std::move(request)); },
         .cancel =
             [this](const std::string& id) {
               std::lock_guard lock(mutex_);
               cancelled_.insert(id);
             },
         .stats = nullptr},
        tokenizer_, metrics_);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }

  absl::Status Submit(SampleRequest request) {
    std::lock_guard lock(mutex_);
    if (refusals_ > 0 && request.id.find("/correction") != std::string::npos) {
      --refusals_;
      return refusal_;
    }
    requests_.push_back(std::move(request));
    changed_.notify_all();
    return absl::OkStatus();
  }

  void Refuse(int times, absl::Status why) {
    std::lock_guard lock(mutex_);
    refusals_ = times;
    refusal_ = std::move(why);
  }

  SampleRequest Next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(10), [&] { return !requests_.empty(); }))
      throw std::runtime_error("no request came in 10 s");
    SampleRequest request = std::move(requests_.front());
    requests_.pop_front();
    return request;
  }

  // Two answers, two corrections of each; prompt {1, 2}.
  absl::Status Ask(uint64_t seed = 7) {
    task_.answers = 2;
    task_.samples = 6;
    SampleRequest request;
    request.id = "g";
    request.prompt_tokens = {1, 2};
    request.sampling.seed = seed;
    request.n = task_.samples;
    request.on_finished = [this](Rollout rollout) {
      std::lock_guard lock(mutex_);
      finished_[rollout.sample_index].push_back(std::move(rollout));
      ++count_;
      changed_.notify_all();
    };
    return runner_->Submit(std::move(request), task_);
  }

  bool WaitFinished(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return count_ >= count; });
  }

  static Rollout Sampled(int32_t index, std::vector<int32_t> tokens, int64_t version = 3) {
    Rollout rollout;
    rollout.sample_index = index;
    rollout.logprobs.assign(tokens.size(), -0.5f);
    rollout.spans = {{version, static_cast<int32_t>(tokens.size())}};
    rollout.usage.answer = static_cast<int32_t>(tokens.size());
    rollout.tokens = std::move(tokens);
    rollout.finish_reason = FinishReason::kStop;
    rollout.text = "text";
    return rollout;
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
  MetricsRegistry metrics_;
  GroupTask task_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SampleRequest> requests_;
  std::map<int32_t, std::vector<Rollout>> finished_;
  std::set<std::string> cancelled_;
  size_t count_ = 0;
  int refusals_ = 0;
  absl::Status refusal_;
  std::unique_ptr<CorrectionRunner> runner_;  // last: its thread ends before what it uses
};

TEST_F(CorrectionsTest, AnAnswerIsCorrectedFromPromptAnswerAndPhrase) {
  ASSERT_TRUE(Ask().ok());
  const SampleRequest answers = Next();
  EXPECT_EQ(answers.n, 2);
  EXPECT_THAT(answers.prompt_tokens, ElementsAre(1, 2));
  answers.on_finished(Sampled(1, {8, 9}));
  ASSERT_TRUE(WaitFinished(1));  // the answer does not wait for its corrections
  EXPECT_THAT(finished_.at(1)[0].tokens, ElementsAre(8, 9));

  const SampleRequest corrections = Next();
  std::vector<int32_t> given = {8, 9};
  const std::vector<int32_t> phrase = tokenizer_->Encode("Again:", false).value();
  given.insert(given.end(), phrase.begin(), phrase.end());
  std::vector<int32_t> prompt = {1, 2};
  prompt.insert(prompt.end(), given.begin(), given.end());
  EXPECT_EQ(corrections.prompt_tokens, prompt);
  EXPECT_EQ(corrections.n, 2);
  EXPECT_NE(corrections.sampling.seed, answers.sampling.seed);

  Rollout sampled = Sampled(1, {40, 41}, /*version=*/5);
  sampled.injected = {{0, 1}};
  corrections.on_finished(sampled);
  ASSERT_TRUE(WaitFinished(2));
  const Rollout whole = finished_.at(2 + 2 + 1)[0];  // of the second answer, the second
  std::vector<int32_t> tokens = given;
  tokens.insert(tokens.end(), {40, 41});
  EXPECT_EQ(whole.tokens, tokens);
  const auto count = static_cast<int32_t>(given.size());
  EXPECT_THAT(whole.injected, ElementsAre(TokenSpan{0, count}, TokenSpan{count, 1}));
  EXPECT_THAT(whole.spans, ElementsAre(VersionSpan{5, count + 2}));
  EXPECT_EQ(whole.logprobs.size(), tokens.size());
  EXPECT_EQ(whole.logprobs.back(), -0.5f);
  EXPECT_EQ(whole.text, "text");  // what a verifier shall see
  EXPECT_TRUE(IsCorrection(task_, whole.sample_index));
  EXPECT_EQ(AnswerOf(task_, whole.sample_index), 1);
}

TEST_F(CorrectionsTest, WhatIsCutShortHasCorrectionsThatAreTooAndTheRestGoesOn) {
  ASSERT_TRUE(Ask().ok());
  const SampleRequest answers = Next();
  Rollout late = Sampled(0, {8});
  late.finish_reason = FinishReason::kTimeout;
  answers.on_finished(late);
  ASSERT_TRUE(WaitFinished(3));
  for (int32_t i : {2, 3}) {
    EXPECT_EQ(finished_.at(i)[0].finish_reason, FinishReason::kTimeout);
    EXPECT_TRUE(finished_.at(i)[0].tokens.empty());
  }
  answers.on_finished(Sampled(1, {8}));
  const SampleRequest corrections = Next();
  for (int32_t i : {0, 1}) corrections.on_finished(Sampled(i, {9}));
  ASSERT_TRUE(WaitFinished(6));
  for (const auto& [index, rollouts] : finished_) EXPECT_EQ(rollouts.size(), 1u) << index;
}

TEST_F(CorrectionsTest, AFullEngineIsAskedAgainAndAFullContextEndsByLength) {
  ASSERT_TRUE(Ask().ok());
  const SampleRequest answers = Next();
  Refuse(3, absl::ResourceExhaustedError("full"));
  answers.on_finished(Sampled(0, {8}));
  EXPECT_EQ(Next().n, 2);
  Refuse(1, absl::InvalidArgumentError("prompt_tokens: no room"));
  answers.on_finished(Sampled(1, {8}));
  ASSERT_TRUE(WaitFinished(4));
  EXPECT_EQ(finished_.at(4)[0].finish_reason, FinishReason::kLength);
}

TEST_F(CorrectionsTest, CancelReachesBothLayers) {
  ASSERT_TRUE(Ask().ok());
  const SampleRequest answers = Next();
  answers.on_finished(Sampled(0, {8}));
  const SampleRequest corrections = Next();
  runner_->Cancel("g");
  EXPECT_EQ(cancelled_, (std::set<std::string>{"g", corrections.id}));
  answers.on_finished(Sampled(1, {8}));  // too late: nobody corrects it
  ASSERT_TRUE(WaitFinished(4));
  EXPECT_EQ(finished_.at(4)[0].finish_reason, FinishReason::kAborted);
}

TEST_F(CorrectionsTest, EndsWithWhatTheEngineHasNotGot) {
  ASSERT_TRUE(Ask().ok());
  const SampleRequest answers = Next();
  Refuse(1 << 20, absl::ResourceExhaustedError("full"));
  answers.on_finished(Sampled(0, {8}));
  runner_.reset();
  ASSERT_TRUE(WaitFinished(3));
  EXPECT_EQ(finished_.at(2)[0].finish_reason, FinishReason::kAborted);
  answers.on_finished(Sampled(1, {8}));  // a late callback is harmless
  EXPECT_TRUE(WaitFinished(6));
}

TEST_F(CorrectionsTest, PhrasesAreDrawnFromTheSeed) {
  Make({"One:", "Two:", "Three:"});
  const auto phrase = [&](uint64_t seed) {
    EXPECT_TRUE(Ask(seed).ok());
    Next().on_finished(Sampled(0, {8}));
    const SampleRequest corrections = Next();
    return std::vector<int32_t>(corrections.prompt_tokens.begin() + 3,
                                corrections.prompt_tokens.end());
  };
  std::set<std::vector<int32_t>> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) seen.insert(phrase(seed));
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(phrase(4), phrase(4));
  const auto bad = CorrectionRunner::Create({""}, {}, tokenizer_, metrics_);
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tramontane
