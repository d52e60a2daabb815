// Episodes over an engine and an environment that both say what the test tells them.
#include "services/generator/episodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "services/generator/episode.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kEnd = 258;

std::chrono::steady_clock::time_point InTime() {
  return std::chrono::steady_clock::now() + std::chrono::seconds(20);
}

const Tokenizer& Demo() {
  static const auto tokenizer = *Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
  return *tokenizer;
}
std::vector<int32_t> TokensOf(const std::string& text) { return *Demo().Encode(text, false); }

// Says "turn<k>" and an end token at each request; keeps the requests.
class TalkingEngine {
 public:
  EngineHooks Hooks() {
    return {.submit = [this](SampleRequest request) { return Submit(std::move(request)); },
            .cancel =
                [this](const std::string& id) {
                  std::lock_guard lock(mutex_);
                  cancelled_.insert(id);
                },
            .stats = [] { return EngineStats(); }};
  }
  std::vector<SampleRequest> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  bool Cancelled(const std::string& id) {
    std::lock_guard lock(mutex_);
    return cancelled_.contains(id);
  }
  void Hold() { held_ = true; }  // requests are never answered
  void Refuse(int times) { refusals_ = times; }
  void EndWith(FinishReason reason) { reason_ = reason; }

 private:
  absl::Status Submit(SampleRequest request) {
    if (refusals_ > 0) {
      --refusals_;
      return absl::ResourceExhaustedError("full");
    }
    std::unique_lock lock(mutex_);
    const auto turn = static_cast<int64_t>(requests_.size());
    requests_.push_back(request);
    lock.unlock();
    if (held_) return absl::OkStatus();
    Rollout rollout;
    rollout.text = "turn" + std::to_string(turn);
    rollout.tokens = TokensOf(rollout.text);
    if (reason_ == FinishReason::kStop) rollout.tokens.push_back(kEnd);
    rollout.logprobs.assign(rollout.tokens.size(), -1);
    rollout.spans = {{turn, static_cast<int32_t>(rollout.tokens.size())}};
    rollout.usage.answer = static_cast<int32_t>(rollout.tokens.size());
    rollout.finish_reason = reason_;
    request.on_finished(std::move(rollout));
    return absl::OkStatus();
  }

  std::mutex mutex_;
  std::vector<SampleRequest> requests_;
  std::set<std::string> cancelled_;
  std::atomic<bool> held_ = false;
  std::atomic<int> refusals_ = 0;
  FinishReason reason_ = FinishReason::kStop;
};

class EpisodesTest : public ::testing::Test {
 protected:
  using Steps = std::vector<absl::StatusOr<EnvironmentStep>>;  // by turn

  EpisodesTest() {
    options_.size_limit = 1000;
    options_.most_episodes = 8;
    options_.incarnation = "x";
    options_.params.before_observation = "<";
    options_.params.after_observation = ">";
    row_.prompt_tokens = TokensOf("ask");
  }

  EnvironmentHooks Environment() {
    return {.reset = [this](const std::string&, const PromptRow&, uint64_t,
                            auto done) { done(first_); },
            .step =
                [this](const std::string&, int32_t turn, const Rollout& action, auto done) {
                  {
                    std::lock_guard lock(mutex_);
                    actions_.push_back(std::to_string(turn) + ":" + action.text);
                  }
                  done(steps_.at(static_cast<size_t>(turn)));
                },
            .close =
                [this](const std::string& episode) {
                  std::lock_guard lock(mutex_);
                  closed_.insert(episode);
                },
            .name =
                [] {
                  return EnvironmentName{"toy", "1", "d"};
                }};
  }
  void Start() { runner_.emplace(options_, engine_.Hooks(), Environment(), tokenizer_, metrics_); }
  SampleRequest Request(int32_t n = 1) {
    SampleRequest request;
    request.id = "g";
    request.prompt_tokens = row_.prompt_tokens;
    request.sampling.max_new_tokens = 100;
    request.n = n;
    request.on_finished = [this](Rollout rollout) {
      std::lock_guard lock(mutex_);
      finished_.push_back(std::move(rollout));
      changed_.notify_all();
    };
    return request;
  }
  std::vector<Rollout> Await(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_until(lock, InTime(), [&] { return finished_.size() >= count; }));
    return finished_;
  }
  Rollout Run() {
    Start();
    EXPECT_TRUE(runner_->Submit(Request(), row_).ok());
    return Await(1).at(0);
  }
  static EnvironmentStep Say(const std::string& text, double reward = 0) {
    EnvironmentStep step;
    step.observation.text = text;
    step.reward = reward;
    return step;
  }
  static EnvironmentStep Done(double reward) {
    EnvironmentStep step = Say("never shown", reward);
    step.done = step.correct = true;
    return step;
  }

  EpisodeRunner::Options options_;
  PromptRow row_;
  std::shared_ptr<const Tokenizer> tokenizer_ =
      *Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
  MetricsRegistry metrics_;
  TalkingEngine engine_;
  absl::StatusOr<EnvironmentObservation> first_ = EnvironmentObservation();
  Steps steps_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Rollout> finished_;
  std::vector<std::string> actions_;
  std::set<std::string> closed_;
  std::optional<EpisodeRunner> runner_;  // last
};

TEST_F(EpisodesTest, TurnsAndObservationsAlternateAndMasksAreExact) {
  first_ = EnvironmentObservation{"go", {}};
  steps_ = {Say("no", 0.25), Say("hm"), Done(1)};
  const Rollout rollout = Run();
  EXPECT_EQ(rollout.text, "goturn0" + *tokenizer_->Decode({kEnd}, false) + "<no>turn1" +
                              *tokenizer_->Decode({kEnd}, false) + "<hm>turn2");
  EXPECT_THAT(rollout.injected, ElementsAre(TokenSpan{0, 2}, TokenSpan{8, 4}, TokenSpan{18, 4}));
  std::vector<uint8_t> injected(rollout.tokens.size(), 0);
  for (const TokenSpan& span : rollout.injected)
    std::fill_n(injected.begin() + span.begin, span.count, 1);
  for (size_t i = 0; i < injected.size(); ++i)
    EXPECT_EQ(rollout.logprobs[i], injected[i] ? 0 : -1) << i;
  // The first observation was seen by the version of the first turn; the others by those before.
  EXPECT_THAT(rollout.spans,
              ElementsAre(VersionSpan{0, 12}, VersionSpan{1, 10}, VersionSpan{2, 6}));
  EXPECT_EQ(rollout.usage, (TokenUsage{0, 18, 10}));
  EXPECT_EQ(rollout.finish_reason, FinishReason::kStop);
  EXPECT_EQ(rollout.verdict.status, VerdictStatus::kScored);
  EXPECT_EQ(rollout.verdict.score, 1.25);
  EXPECT_TRUE(rollout.verdict.correct);
  EXPECT_EQ(rollout.verdict.metrics.at("turns"), 3);
  EXPECT_EQ(rollout.verdict.verifier_digest, "d");
  EXPECT_THAT(actions_, ElementsAre("0:turn0", "1:turn1", "2:turn2"));
  EXPECT_THAT(closed_, ElementsAre("g/0/x"));
}

TEST_F(EpisodesTest, EachTurnIsAskedWithAllThatWasSaidAndDrawsApart) {
  steps_ = {Say("no"), Done(0)};
  Run();
  const std::vector<SampleRequest> requests = engine_.requests();
  ASSERT_EQ(requests.size(), 2u);
  std::vector<int32_t> second = TokensOf("askturn0");
  second.push_back(kEnd);
  for (int32_t token : TokensOf("<no>")) second.push_back(token);
  EXPECT_EQ(requests[1].prompt_tokens, second);
  EXPECT_EQ(requests[1].sampling.max_new_tokens, 100 - 10);
  EXPECT_NE(requests[0].sampling.seed, requests[1].sampling.seed);
  EXPECT_NE(requests[0].id, requests[1].id);
}

TEST_F(EpisodesTest, TokensOfAnObservationAreUsedAsTheyAreAndLongOnesAreCut) {
  options_.params.max_observation_tokens = 3;
  EnvironmentStep tokens;
  tokens.observation.tokens = TokensOf("AB");
  steps_ = {tokens, Say("abcdef"), Done(0)};
  const Rollout rollout = Run();
  EXPECT_THAT(rollout.text, HasSubstr("<AB>"));
  EXPECT_THAT(rollout.text, HasSubstr("<abc>"));
}

TEST_F(EpisodesTest, TurnsAndRoomAreBounded) {
  options_.params.max_turns = 2;
  steps_ = {Say("a", 1), Say("b", 1), Done(1)};
  const Rollout turns = Run();
  EXPECT_EQ(turns.finish_reason, FinishReason::kLength);
  EXPECT_EQ(turns.verdict.score, 2);
  EXPECT_EQ(engine_.requests().size(), 2u);
  options_.params.max_turns = 9;
  steps_ = {Say(std::string(500, 'a')), Done(1)};
  finished_.clear();
  const Rollout room = Run();
  EXPECT_EQ(room.finish_reason, FinishReason::kLength);
  EXPECT_EQ(room.tokens.size(), 100u);
}

TEST_F(EpisodesTest, ATurnMayBeCutAndTheEnvironmentAnswersWhatThereIs) {
  engine_.EndWith(FinishReason::kLength);
  options_.params.max_turn_tokens = 5;
  steps_ = {Say("go on", 0.5), Done(1)};
  const Rollout rollout = Run();
  EXPECT_EQ(engine_.requests()[0].sampling.max_new_tokens, 5);
  EXPECT_EQ(rollout.text, "turn0<go on>turn1");
  EXPECT_EQ(rollout.finish_reason, FinishReason::kStop);
  EXPECT_EQ(rollout.verdict.score, 1.5);
}

TEST_F(EpisodesTest, AnEnvironmentThatFailsCostsOneSampleAndGivesNoReward) {
  steps_ = {Say("a"), absl::NotFoundError("episode expired")};
  const Rollout step = Run();
  EXPECT_EQ(step.verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_FALSE(step.verdict.score.has_value());
  EXPECT_THAT(step.verdict.feedback, HasSubstr("episode expired"));
  first_ = absl::InvalidArgumentError("bad row");
  finished_.clear();
  EXPECT_EQ(Run().verdict.status, VerdictStatus::kInfraFailure);
  first_ = EnvironmentObservation{"", {-7}};
  finished_.clear();
  EXPECT_THAT(Run().verdict.feedback, HasSubstr("-7"));
}

TEST_F(EpisodesTest, AVerifierMayJudgeInPlaceOfTheEnvironment) {
  options_.params.judge = "math";
  steps_ = {Done(1)};
  EXPECT_EQ(Run().verdict.status, VerdictStatus::kUnspecified);
}

TEST_F(EpisodesTest, AFullEngineIsWaitedForAndTooManyEpisodesAreRefused) {
  engine_.Refuse(3);
  steps_ = {Done(1)};
  EXPECT_EQ(Run().verdict.score, 1);
  EXPECT_TRUE(absl::IsResourceExhausted(runner_->Submit(Request(9), row_)));
  options_.size_limit = 3;
  Start();
  EXPECT_TRUE(absl::IsInvalidArgument(runner_->Submit(Request(), row_)));
}

TEST_F(EpisodesTest, CancelledOnesEndAbortedAndSoDoThoseOfARunnerThatEnds) {
  engine_.Hold();
  Start();
  ASSERT_TRUE(runner_->Submit(Request(2), row_).ok());
  while (engine_.requests().size() < 2) std::this_thread::yield();
  runner_->Cancel("g");
  for (const Rollout& rollout : Await(2)) {
    EXPECT_EQ(rollout.finish_reason, FinishReason::kAborted);
    EXPECT_EQ(rollout.verdict.status, VerdictStatus::kUnspecified);
  }
  EXPECT_TRUE(engine_.Cancelled(engine_.requests()[0].id));
  ASSERT_TRUE(runner_->Submit(Request(), row_).ok());
  runner_.reset();
  EXPECT_EQ(Await(3).size(), 3u);
}

TEST(EpisodeResponse, OneThatNobodySampledIsEmpty) {
  EpisodeResponse response;
  response.AddObservation({1, 2}, "ab");
  const Rollout rollout = response.Finish(FinishReason::kAborted, 3);
  EXPECT_TRUE(rollout.tokens.empty());
  EXPECT_TRUE(rollout.spans.empty());
  EXPECT_TRUE(rollout.injected.empty());
}

// A byte a token: the number of the turn that computed it.
TEST(EpisodeResponse, EachTokenHasTheRoutesThatItsOwnTurnWasSampledBy) {
  const auto turn = [](std::vector<int32_t> tokens, size_t before, uint8_t number) {
    Rollout rollout;
    rollout.tokens = std::move(tokens);
    rollout.logprobs.assign(rollout.tokens.size(), -1);
    rollout.spans = {{0, static_cast<int32_t>(rollout.tokens.size())}};
    rollout.routes.assign(2 * (before + rollout.tokens.size() - 1), number);
    return rollout;
  };
  EpisodeResponse response;
  response.AddTurn(turn({1, 2}, 3, 1), "ab");  // prompt and the first token: 4 tokens
  response.AddObservation({3, 4}, "cd");
  response.AddTurn(turn({5}, 3 + 4, 2), "e");  // 2, 3 and 4: computed in this turn
  response.AddObservation({6}, "f");           // 5: never computed
  const Rollout whole = response.Finish(FinishReason::kLength, 3);
  EXPECT_EQ(whole.routes,
            (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, kNoRoute, kNoRoute}));
  EpisodeResponse dense;
  Rollout without = turn({1}, 3, 1);
  without.routes.clear();
  dense.AddTurn(without, "a");
  EXPECT_TRUE(dense.Finish(FinishReason::kStop, 3).routes.empty());
}

}  // namespace
}  // namespace tramontane
