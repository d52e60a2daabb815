// The worker between a real queue and a scripted engine and verifier.
#include "services/generator/group_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "common/clock.h"
#include "common/record_io.h"
#include "queue/blob_store.h"
#include "queue/work_queue.h"
#include "tests/support/redis_server.h"
#include "tests/support/small_disk.h"

namespace tramontane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Engine and verifier as seen by the worker: they keep what they are given until the test answers.
class Script {
 public:
  struct Asked {
    PromptRow row;
    Rollout rollout;
    VerifyTicket ticket;
    std::function<void(Verdict)> answer;
  };

  GroupWorkerHooks Hooks() {
    return {.submit = [this](SampleRequest request,
                             const GroupTask&) { return Submit(std::move(request)); },
            .cancel = [this](const std::string& id) { Note(cancelled, id); },
            .ready = [this] { return ready.load(); },
            .verify =
                [this](const PromptRow& row, const Rollout& rollout, const VerifyTicket& ticket,
                       std::function<void(Verdict)> answer) {
                  if (verify_at_once) return answer(Scored(rollout.sample_index));
                  std::lock_guard lock(mutex_);
                  asked_.push_back({row, rollout, ticket, std::move(answer)});
                  changed_.notify_all();
                },
            .cancel_verify = [this](const std::string& owner) { Note(verify_cancelled, owner); }};
  }

  // The oldest request or question that the test has not taken; fails the test after 10 s.
  SampleRequest NextRequest() { return Next(requests_); }
  Asked NextAsked() { return Next(asked_); }
  size_t untaken_requests() {
    std::lock_guard lock(mutex_);
    return requests_.size();
  }
  std::set<std::string> Names(const std::set<std::string>& names) {
    std::lock_guard lock(mutex_);
    return names;
  }

  static void Finish(const SampleRequest& request, int32_t index,
                     FinishReason reason = FinishReason::kStop) {
    Rollout rollout;
    rollout.sample_index = index;
    rollout.tokens = {1, index};
    rollout.logprobs = {-1, -2};
    rollout.spans = {{5, 2}};
    rollout.finish_reason = reason;
    rollout.text = "text " + std::to_string(index);
    request.on_finished(std::move(rollout));
  }
  static Verdict Scored(double score) {
    Verdict verdict;
    verdict.status = VerdictStatus::kScored;
    verdict.score = score;
    return verdict;
  }

  std::atomic<bool> ready = true, verify_at_once = false;
  std::atomic<int> refusals = 0;  // submissions refused for want of room before one is taken
  std::atomic<bool> bad_prompts = false;
  std::set<std::string> cancelled, verify_cancelled;

 private:
  absl::Status Submit(SampleRequest request) {
    if (bad_prompts) return absl::InvalidArgumentError("the prompt is longer than the cache");
    if (refusals > 0) {
      --refusals;
      return absl::ResourceExhaustedError("full");
    }
    std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    changed_.notify_all();
    return absl::OkStatus();
  }
  void Note(std::set<std::string>& where, const std::string& what) {
    std::lock_guard lock(mutex_);
    where.insert(what);
  }
  template <class T>
  T Next(std::deque<T>& items) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(10), [&] { return !items.empty(); })) {
      throw std::runtime_error("nothing came in 10 s");  // gtest reports it as a failure
    }
    T item = std::move(items.front());
    items.pop_front();
    return item;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SampleRequest> requests_;
  std::deque<Asked> asked_;
};

class GroupWorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    queue_ = WorkQueue::Connect(server_->config(), "run").value();
    epoch_ = queue_->Fence().value();
    options_.emplace(GroupWorkerOptions{.redis = server_->config(),
                                        .run_id = "run",
                                        .worker = "generator-0",
                                        .blobs = BlobStore::Open(dir_.path() + "/blobs").value(),
                                        .lease_s = 1,
                                        .claim_groups = 1,
                                        .samples_per_group = 2,
                                        .max_running_sequences = 4});
  }

  void Start() {
    worker_ = std::make_unique<GroupWorker>(*options_, script_.Hooks(), metrics_);
    worker_->Start();
  }
  void Admit(const std::string& gid, int32_t samples = 2) {
    GroupTask task;
    task.gid = gid;
    task.samples = samples;
    task.row.prompt = "1+1=";
    task.row.prompt_tokens = {7, 8};
    task.row.answer = "2";
    task.sampling.max_new_tokens = 9;
    AdmitBlob(gid, options_->blobs.Put(EncodeTask(task)).value());
  }
  void AdmitBlob(const std::string& gid, const std::string& blob) {
    ASSERT_EQ(queue_->Admit(gid, blob, Purpose::kTrain, epoch_, 1000).value(),
              AdmitResult::kAdmitted);
  }
  Group TakeCompleted() {
    const auto start = std::chrono::steady_clock::now();
    while (SecondsSince(start) < 10) {
      const std::vector<CompletedGroup> taken = queue_->TakeCompleted(1, 100).value();
      if (taken.empty()) continue;
      const BlobStore& blobs = options_->blobs;
      return DecodeGroup(blobs.Get(taken[0].blob).value()).value();
    }
    throw std::runtime_error("no group was completed in 10 s");
  }
  // Until `fits` holds, at most 10 s.
  static bool Eventually(const std::function<bool()>& fits) {
    const auto start = std::chrono::steady_clock::now();
    while (!fits() && SecondsSince(start) < 10)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return fits();
  }
  QueueStats Stats() { return queue_->Stats().value(); }
  // The counter follows the queue's answer: a moment later than what others see of it.
  bool Counted(const std::string& outcome, int count) {
    const std::string line = "tramontane_generator_groups_total{outcome=\"" + outcome + "\"} " +
                             std::to_string(count) + "\n";
    return Eventually([&] { return metrics_.Render().find(line) != std::string::npos; });
  }

  TempDir dir_;
  std::unique_ptr<RedisServer> server_ = RedisServer::Start().value();
  std::unique_ptr<WorkQueue> queue_;
  int64_t epoch_ = 0;
  std::optional<GroupWorkerOptions> options_;
  MetricsRegistry metrics_;
  Script script_;
  std::unique_ptr<GroupWorker> worker_;  // ends before what it calls
};

TEST_F(GroupWorkerTest, WhatComesJudgedIsAskedOfNoVerifierNotEvenAgain) {
  Start();
  Admit("aa");
  const SampleRequest request = script_.NextRequest();
  Rollout judged;
  judged.tokens = {1};
  judged.logprobs = {-1};
  judged.spans = {{5, 1}};
  judged.finish_reason = FinishReason::kStop;
  judged.verdict = Script::Scored(0.25);
  judged.verdict.verifier_digest = "old";
  request.on_finished(judged);
  Script::Finish(request, 1);
  Verdict other = Script::Scored(1);
  other.verifier_digest = "new";  // another version of a verifier: the group is judged anew
  script_.NextAsked().answer(other);
  const Script::Asked again = script_.NextAsked();
  EXPECT_EQ(again.rollout.sample_index, 1);
  other.verifier_digest = "old";
  again.answer(other);
  const Group group = TakeCompleted();
  EXPECT_EQ(group.rollouts[0].verdict.score, 0.25);
  EXPECT_EQ(group.rollouts[1].verdict.score, 1);
}

TEST_F(GroupWorkerTest, EverySampleIsVerifiedWhenItIsFinishedAndTheGroupGoesBackWhole) {
  Admit("g");
  Start();
  const SampleRequest request = script_.NextRequest();
  EXPECT_THAT(request.prompt_tokens, ElementsAre(7, 8));
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.sampling.max_new_tokens, 9);
  Script::Finish(request, 1);
  Script::Asked second = script_.NextAsked();  // before the first sample is there
  EXPECT_EQ(second.rollout.text, "text 1");
  EXPECT_EQ(second.row.answer, "2");
  EXPECT_EQ(second.ticket.gid, "g");
  EXPECT_EQ(second.ticket.samples, 2);
  Script::Finish(request, 0);
  Script::Asked first = script_.NextAsked();
  first.answer(Script::Scored(0.25));
  EXPECT_EQ(Stats().completed, 0);
  second.answer(Script::Scored(0.75));
  const Group group = TakeCompleted();
  EXPECT_EQ(group.generator_id, "generator-0");
  ASSERT_EQ(group.rollouts.size(), 2u);
  EXPECT_EQ(group.rollouts[0].text, "text 0");
  EXPECT_EQ(group.rollouts[0].verdict.score, 0.25);
  EXPECT_EQ(group.rollouts[1].verdict.score, 0.75);
  EXPECT_TRUE(Eventually([this] { return worker_->open_groups() == 0; }));
  EXPECT_TRUE(Counted("completed", 1));
}

TEST_F(GroupWorkerTest, ASampleThatTookTooLongCostsItsGroupOneSampleAndNoVerdict) {
  options_->rollout_timeout_s = 500;
  Admit("g");
  Start();
  const SampleRequest request = script_.NextRequest();
  const auto left = request.deadline - std::chrono::steady_clock::now();
  EXPECT_GT(left, std::chrono::seconds(400));
  EXPECT_LE(left, std::chrono::seconds(500));
  Script::Finish(request, 0, FinishReason::kTimeout);
  Script::Finish(request, 1);
  Script::Asked asked = script_.NextAsked();
  EXPECT_EQ(asked.rollout.sample_index, 1);  // the other is no question
  asked.answer(Script::Scored(1));
  const Group group = TakeCompleted();
  EXPECT_EQ(group.rollouts[0].finish_reason, FinishReason::kTimeout);
  EXPECT_EQ(group.rollouts[0].verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_FALSE(group.rollouts[0].verdict.score.has_value());
  EXPECT_EQ(group.rollouts[1].verdict.score, 1);
}

TEST_F(GroupWorkerTest, ClaimsAheadAsFarAsTheEngineCanUseIt) {
  for (int i = 0; i < 8; ++i) Admit("g" + std::to_string(i));
  Start();
  // 4 sequences run at once and one group of 2 is claimed ahead.
  ASSERT_TRUE(Eventually([this] { return script_.untaken_requests() == 3; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_EQ(script_.untaken_requests(), 3u);
  // A group that waits for verdicts alone makes room for another.
  const SampleRequest request = script_.NextRequest();
  Script::Finish(request, 0);
  Script::Finish(request, 1);
  EXPECT_TRUE(Eventually([this] { return script_.untaken_requests() == 3; }));
  EXPECT_EQ(worker_->open_groups(), 4);
}

TEST_F(GroupWorkerTest, NothingIsClaimedBeforeTheEngineHoldsWeights) {
  script_.ready = false;
  Admit("g");
  Start();
  EXPECT_TRUE(Eventually([this] { return worker_->WaitingSeconds().count("weights") == 1; }));
  EXPECT_EQ(Stats().waiting, 1);
  script_.ready = true;
  script_.NextRequest();
  EXPECT_EQ(worker_->WaitingSeconds().count("weights"), 0u);
}

TEST_F(GroupWorkerTest, AFullEngineIsWaitedFor) {
  script_.refusals = 3;
  script_.verify_at_once = true;
  Admit("g");
  Start();
  const SampleRequest request = script_.NextRequest();
  Script::Finish(request, 0);
  Script::Finish(request, 1);
  EXPECT_EQ(TakeCompleted().rollouts.size(), 2u);
}

TEST_F(GroupWorkerTest, ARowThatCannotBeSampledIsDeadAtOnceWithItsReason) {
  script_.bad_prompts = true;
  Admit("g");
  Start();
  std::vector<DeadGroup> dead;
  ASSERT_TRUE(Eventually([&] { return !(dead = queue_->ListDead(9).value()).empty(); }));
  EXPECT_THAT(dead[0].reason, HasSubstr("longer than the cache"));
  EXPECT_TRUE(Counted("failed", 1));
}

TEST_F(GroupWorkerTest, ATaskThatIsGoneIsDeadAfterItsLastDelivery) {
  AdmitBlob("g", std::string(64, 'a'));
  Start();
  std::vector<DeadGroup> dead;
  ASSERT_TRUE(Eventually([&] { return !(dead = queue_->ListDead(9).value()).empty(); }));
  EXPECT_THAT(dead[0].reason, HasSubstr("task blob"));
  EXPECT_TRUE(Counted("failed", 3));
}

TEST_F(GroupWorkerTest, AnEngineErrorFailsTheDeliveryAndTheNextOneMayComplete) {
  script_.verify_at_once = true;
  Admit("g");
  Start();
  const SampleRequest first = script_.NextRequest();
  Script::Finish(first, 0, FinishReason::kError);
  const SampleRequest second = script_.NextRequest();
  EXPECT_NE(first.id, second.id);
  EXPECT_THAT(script_.Names(script_.cancelled), ElementsAre(first.id));
  Script::Finish(first, 1);  // of the delivery that failed: ignored
  Script::Finish(second, 0);
  Script::Finish(second, 1);
  EXPECT_EQ(TakeCompleted().rollouts.size(), 2u);
}

TEST_F(GroupWorkerTest, AnAbortedGroupIsGivenBackWithoutCountingAsAFailure) {
  Admit("g");
  Start();
  for (int i = 0; i < 5; ++i) {  // more often than a group may fail
    Script::Finish(script_.NextRequest(), 0, FinishReason::kAborted);
  }
  script_.NextRequest();
  EXPECT_TRUE(queue_->ListDead(9).value().empty());
  EXPECT_TRUE(Counted("released", 5));
}

TEST_F(GroupWorkerTest, ALostLeaseCancelsItsSamplesAndLateResultsAreIgnored) {
  Admit("g");
  Start();
  const SampleRequest request = script_.NextRequest();
  Script::Finish(request, 0);
  Script::Asked asked = script_.NextAsked();
  script_.ready = false;  // it must not claim the same group again
  ASSERT_TRUE(Eventually([this] { return worker_->WaitingSeconds().count("weights") == 1; }));
  ASSERT_EQ(queue_->Reap(/*lease_s=*/0, 3).value(), 1);
  ASSERT_TRUE(Eventually([&] { return script_.Names(script_.cancelled).count(request.id) == 1; }));
  EXPECT_THAT(script_.Names(script_.verify_cancelled), ElementsAre(request.id));
  asked.answer(Script::Scored(1));
  Script::Finish(request, 1);
  EXPECT_EQ(worker_->open_groups(), 0);
  EXPECT_TRUE(Counted("lost", 1));
  EXPECT_EQ(Stats().completed, 0);
  EXPECT_EQ(Stats().waiting, 1);
}

TEST_F(GroupWorkerTest, WhileRedisIsAwayFinishedGroupsAreKept) {
  script_.verify_at_once = true;
  options_->lease_s = 60;
  Admit("g");
  Start();
  const SampleRequest request = script_.NextRequest();
  server_->Kill();
  Script::Finish(request, 0);
  Script::Finish(request, 1);
  EXPECT_TRUE(Eventually([this] { return worker_->WaitingSeconds().count("redis") == 1; }));
  EXPECT_EQ(worker_->open_groups(), 1);
  ASSERT_TRUE(server_->Restart().ok());
  queue_ = WorkQueue::Connect(server_->config(), "run").value();  // the test's own was cut as well
  EXPECT_EQ(TakeCompleted().rollouts.size(), 2u);
  EXPECT_TRUE(Eventually([this] { return worker_->WaitingSeconds().count("redis") == 0; }));
}

TEST_F(GroupWorkerTest, DrainingWaitsForWhatRunsAndGivesBackTheRest) {
  script_.verify_at_once = true;
  Admit("a");
  Admit("b");
  Start();
  const SampleRequest first = script_.NextRequest();
  const SampleRequest second = script_.NextRequest();
  std::jthread finisher([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    Script::Finish(first, 0);
    Script::Finish(first, 1);
  });
  const auto start = std::chrono::steady_clock::now();
  worker_->Drain(3);
  EXPECT_GT(SecondsSince(start), 2.9);
  EXPECT_THAT(script_.Names(script_.cancelled), ElementsAre(second.id));
  EXPECT_EQ(TakeCompleted().rollouts.size(), 2u);
  const QueueStats stats = Stats();
  EXPECT_EQ(stats.leased, 0);
  EXPECT_EQ(stats.waiting, 1);
}

TEST_F(GroupWorkerTest, AFullDiskIsWaitedOutWithTheGroupInHand) {
  auto disk = SmallDisk::Mount(size_t{1} << 20);
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  options_->blobs = BlobStore::Open((*disk)->path() + "/blobs").value();
  script_.verify_at_once = true;
  Admit("g");
  Start();
  const SampleRequest request = script_.NextRequest();
  (*disk)->Fill(0);
  Script::Finish(request, 0);
  Script::Finish(request, 1);
  EXPECT_TRUE(Eventually([this] { return worker_->WaitingSeconds().count("disk") == 1; }));
  EXPECT_EQ((*disk)->CountFiles(), 1);  // the task; nothing half-written beside it
  (*disk)->Fill(size_t{1} << 19);
  EXPECT_EQ(TakeCompleted().rollouts.size(), 2u);
  worker_.reset();
}

}  // namespace
}  // namespace tramontane
