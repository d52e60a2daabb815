// Searches beside each other over an engine whose every sample the test ends.
#include "generator/search/search_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <nlohmann/json.hpp>
#include <set>

namespace tramontane {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

std::chrono::steady_clock::time_point Soon() {
  return std::chrono::steady_clock::now() + seconds(20);
}

class HeldEngine {
 public:
  EngineHooks Hooks() {
    return {.submit = [this](SampleRequest request) { return Submit(std::move(request)); },
            .cancel = [this](const std::string& id) { Cancel(id); },
            .stats = [] { return EngineStats(); }};
  }
  // Waits for one that has not been ended.
  SampleRequest Next() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_until(lock, Soon(), [this] { return !open_.empty(); }));
    if (open_.empty()) return {};
    SampleRequest request = std::move(open_.begin()->second);
    open_.erase(open_.begin());
    return request;
  }
  bool AwaitOpen(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Soon(), [&] { return open_.size() >= count; });
  }
  void Refuse(int times) {
    std::lock_guard lock(mutex_);
    refusals_ = times;
  }
  int refusals() {
    std::lock_guard lock(mutex_);
    return refusals_;
  }
  static void End(const SampleRequest& request, const std::string& text,
                  FinishReason reason = FinishReason::kStop) {
    OpenResponse response = request.begun == nullptr ? OpenResponse() : *request.begun;
    Rollout& rollout = response.rollout;
    rollout.tokens.push_back(static_cast<int32_t>(text.size()));
    rollout.logprobs.push_back(-static_cast<float>(text.size()));
    ++response.draws;
    rollout.text += text;
    rollout.finish_reason = reason;
    request.on_open(std::move(response));
  }

 private:
  absl::Status Submit(SampleRequest request) {
    std::lock_guard lock(mutex_);
    if (refusals_ > 0) {
      --refusals_;
      return absl::ResourceExhaustedError("the queue is full");
    }
    const std::string id = request.id;
    EXPECT_TRUE(open_.emplace(id, std::move(request)).second) << id << " twice";
    changed_.notify_all();
    return absl::OkStatus();
  }
  void Cancel(const std::string& id) {
    std::unique_lock lock(mutex_);
    auto node = open_.extract(id);
    lock.unlock();
    if (node) End(node.mapped(), "", FinishReason::kAborted);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, SampleRequest> open_;
  int refusals_ = 0;
};

class SearchPoolTest : public ::testing::Test {
 protected:
  using Found = absl::StatusOr<SearchResult>;

  SearchJob Job(const std::string& id, const std::string& params, std::promise<Found>& found) {
    SearchJob job;
    job.params = *SearchFromJson(nlohmann::json::parse(params));
    job.sample.id = id;
    job.sample.prompt_tokens = {1};
    job.sample.sampling.max_new_tokens = 10;
    job.tools.answer = [](const std::string& text) { return std::optional(text); };
    job.tools.same = [](const std::string& a, const std::string& b) { return a == b; };
    job.done = [&found](Found result) { found.set_value(std::move(result)); };
    return job;
  }
  static Found Await(std::promise<Found>& found) {
    std::future<Found> future = found.get_future();
    if (future.wait_until(Soon()) != std::future_status::ready)
      return absl::InternalError("nothing came");
    return future.get();
  }
  double Count(const std::string& outcome) {
    return metrics_.MakeCounter("tramontane_generator_searches_total", {{"outcome", outcome}})
        .Value();
  }

  HeldEngine engine_;
  MetricsRegistry metrics_;
};

TEST_F(SearchPoolTest, RunsSearchesSideBySideAndLetsTheOthersWait) {
  std::promise<Found> a, b, c, d;
  SearchPool pool({.max_running = 2, .max_waiting = 1}, engine_.Hooks(), metrics_);
  ASSERT_TRUE(pool.Submit(Job("a", R"({"method":"majority","n":3})", a)).ok());
  ASSERT_TRUE(pool.Submit(Job("b", R"({"n":2})", b)).ok());
  ASSERT_TRUE(engine_.AwaitOpen(5));  // paths of both
  ASSERT_TRUE(pool.Submit(Job("c", R"({"n":1})", c)).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(pool.Submit(Job("a", "{}", d))));
  EXPECT_TRUE(absl::IsResourceExhausted(pool.Submit(Job("d", "{}", d))));
  EXPECT_EQ(Count("refused"), 1);
  for (const char* text : {"x", "yy", "yy", "four", "a"}) {
    SampleRequest request = engine_.Next();
    if (request.id.starts_with("c")) ADD_FAILURE() << "there was no thread for it";
    HeldEngine::End(request, text);
  }
  const Found majority = Await(a), best = Await(b);
  ASSERT_TRUE(majority.ok() && best.ok());
  EXPECT_EQ(majority->best.answer, "yy");
  EXPECT_EQ(best->best.rollout.text, "a");  // whose mean log-probability is the highest
  HeldEngine::End(engine_.Next(), "z");
  EXPECT_EQ(Await(c)->best.rollout.text, "z");
  EXPECT_EQ(Count("found"), 3);
}

TEST_F(SearchPoolTest, CancelsWhatRunsAndWhatWaits) {
  std::promise<Found> running, waiting;
  SearchPool pool({.max_running = 1, .max_waiting = 1}, engine_.Hooks(), metrics_);
  ASSERT_TRUE(pool.Submit(Job("r", R"({"n":2})", running)).ok());
  ASSERT_TRUE(engine_.AwaitOpen(2));
  ASSERT_TRUE(pool.Submit(Job("w", R"({"n":2})", waiting)).ok());
  pool.Cancel("w");
  EXPECT_TRUE(absl::IsCancelled(Await(waiting).status()));
  pool.Cancel("r");
  pool.Cancel("nobody");
  EXPECT_TRUE(absl::IsCancelled(Await(running).status()));
  std::promise<Found> next;
  ASSERT_TRUE(pool.Submit(Job("r", R"({"n":1})", next)).ok());  // the id is free again
  HeldEngine::End(engine_.Next(), "x");
  EXPECT_TRUE(Await(next).ok());
  EXPECT_EQ(Count("cancelled"), 2);
}

TEST_F(SearchPoolTest, EndsWithItsGenerator) {
  std::promise<Found> running, waiting;
  {
    SearchPool pool({.max_running = 1, .max_waiting = 1}, engine_.Hooks(), metrics_);
    ASSERT_TRUE(pool.Submit(Job("r", "{}", running)).ok());
    ASSERT_TRUE(engine_.AwaitOpen(4));
    ASSERT_TRUE(pool.Submit(Job("w", "{}", waiting)).ok());
  }
  EXPECT_TRUE(absl::IsCancelled(Await(running).status()));
  EXPECT_TRUE(absl::IsCancelled(Await(waiting).status()));
}

TEST_F(SearchPoolTest, AFullQueueRefusesASearchAtItsBeginAndIsWaitedForLater) {
  SearchPool pool({}, engine_.Hooks(), metrics_);
  engine_.Refuse(1);
  std::promise<Found> refused, patient;
  ASSERT_TRUE(pool.Submit(Job("a", R"({"n":2})", refused)).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Await(refused).status()));
  ASSERT_TRUE(pool.Submit(Job("b", R"({"method":"beam","n":1,"expansion":1})", patient)).ok());
  SampleRequest first = engine_.Next();
  EXPECT_EQ(first.pause.at_text, "\n\n");
  engine_.Refuse(3);
  HeldEngine::End(first, "step\n\n", FinishReason::kUnspecified);
  SampleRequest second = engine_.Next();  // after three refusals
  EXPECT_EQ(engine_.refusals(), 0);
  ASSERT_NE(second.begun, nullptr);
  EXPECT_EQ(second.begun->rollout.text, "step\n\n");
  HeldEngine::End(second, "end");
  const Found found = Await(patient);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->best.rollout.text, "step\n\nend");
  EXPECT_EQ(found->best.step_scores.size(), 2u);
}

TEST_F(SearchPoolTest, LateAndLostSamplesAreErrorsWithTheirCodes) {
  SearchPool pool({}, engine_.Hooks(), metrics_);
  for (const auto& [reason, code] :
       {std::pair{FinishReason::kTimeout, absl::StatusCode::kDeadlineExceeded},
        {FinishReason::kAborted, absl::StatusCode::kUnavailable},
        {FinishReason::kError, absl::StatusCode::kInternal}}) {
    std::promise<Found> found;
    ASSERT_TRUE(pool.Submit(Job("a", R"({"n":2})", found)).ok());
    HeldEngine::End(engine_.Next(), "", reason);
    HeldEngine::End(engine_.Next(), "fine");
    EXPECT_EQ(Await(found).status().code(), code);
  }
  std::promise<Found> late;
  SearchJob job = Job("b", "{}", late);
  job.sample.deadline = std::chrono::steady_clock::now();
  ASSERT_TRUE(pool.Submit(std::move(job)).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(Await(late).status()));
  EXPECT_EQ(Count("failed"), 4);
}

TEST(SearchAsk, GoldAnswersAreOneForEachPromptOrNone) {
  const auto read = [](const char* text) {
    return SearchAskFromJson(nlohmann::json::parse(text), 2).status();
  };
  for (const char* good : {R"({"scorer":"math","answers":["1","2"]})", R"({"method":"beam"})",
                           R"({"scorer":"judge","scorer_params":{"rubric":"short"}})"})
    EXPECT_TRUE(read(good).ok()) << good << read(good);
  for (const auto& [text, field] :
       {std::pair{R"({"scorer":"math","answers":["1"]})", "search.answers"},
        {R"({"answers":["1","2"]})", "search.answers"},
        {R"({"answers":"1"})", "search.answers"},
        {R"({"scorer":3})", "search.scorer"},
        {R"({"scorer_params":{"a":1}})", "search.scorer_params"},
        {R"({"scorer":"x","scorer_params":[]})", "search.scorer_params"},
        {R"({"scorer":"math","answers":[1,2]})", "search.answers"},
        {"3", "search"}}) {
    EXPECT_EQ(read(text).code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(read(text).message()), HasSubstr(field));
  }
}

}  // namespace
}  // namespace tramontane
