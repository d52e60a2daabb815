#include "services/verifier/client.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/hash.h"
#include "services/judged_digest.h"
#include "services/verifier/service.h"
#include "tests/unit/verifier_service/scripted_verifier.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

class VerifierPoolTest : public testing::Test {
 protected:
  void StartServer(ScriptedVerifier::Script script) {
    service_ = std::make_unique<ScriptedVerifier>(std::move(script));
    server_ = Serve(service_.get(), &port_);
    ASSERT_NE(server_, nullptr);
  }
  void MakePool(int max_attempts = 3, double timeout_s = 5, CircuitOptions circuit = {},
                VerifierSection section = {}) {
    section.address = "127.0.0.1:" + std::to_string(port_);
    section.max_attempts = max_attempts;
    section.request_timeout_s = timeout_s;
    auto pool = VerifierPool::Create({{"v", section}}, {.circuit = circuit}, metrics_, clock_);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }
  void Verify(int index, int samples = 1, const std::string& owner = "gid#1") {
    PromptRow row;
    row.prompt = "1+1=";
    row.answer = "2";
    row.verifier = "v";
    row.params = {{"k", 7}};
    row.messages = {{"system", "Add."}, {"user", "1+1"}};
    Rollout rollout;
    rollout.sample_index = index;
    rollout.text = "<think></think>\\boxed{2}";
    rollout.tokens = {1, 2, 3};
    pool_->Verify(row, rollout, {"gid", owner, samples}, [this](Verdict verdict) {
      std::lock_guard lock(mutex_);
      verdicts_.push_back(std::move(verdict));
      changed_.notify_all();
    });
  }
  std::vector<Verdict> WaitFor(size_t count, int seconds = 30) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(seconds),
                      [&] { return verdicts_.size() >= count; });
    EXPECT_EQ(verdicts_.size(), count);
    return verdicts_;
  }
  Verdict One(int seconds = 30) {
    const std::vector<Verdict> all = WaitFor(1, seconds);
    return all.empty() ? Verdict{} : all.front();
  }
  void TearDown() override {
    over_ = true;
    pool_.reset();
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
  }

  std::atomic<bool> over_ = false;  // lets scripts that wait return
  int port_ = 0;
  std::unique_ptr<ScriptedVerifier> service_;
  std::unique_ptr<grpc::Server> server_;
  MetricsRegistry metrics_;
  SystemClock clock_;
  std::unique_ptr<VerifierPool> pool_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Verdict> verdicts_;
  std::map<std::string, double> by_group_;
};

grpc::Status Ok(const v1::VerifyRequest&, int, v1::VerifyResult*) { return grpc::Status::OK; }

TEST_F(VerifierPoolTest, BringsVerdictsPinnedToTheVerifier) {
  StartServer([](const v1::VerifyRequest& request, int, v1::VerifyResult*) {
    EXPECT_THAT(request.request_id(), testing::StartsWith("gid/3/"));
    EXPECT_EQ(request.group_id(), "gid");
    EXPECT_EQ(request.prompt(), "1+1=");
    EXPECT_EQ(request.answer(), "2");
    EXPECT_EQ(request.completion_tokens(), 3u);
    EXPECT_EQ(request.params().fields().at("k").number_value(), 7);
    EXPECT_GT(request.exec_timeout_s(), 0);
    EXPECT_EQ(request.messages_size(), 2);
    EXPECT_EQ(request.messages(1).role(), "user");
    EXPECT_EQ(request.messages(1).content(), "1+1");
    // A function of the id, which the Python package's replay computes as well.
    const std::string hash = Sha256Hex(request.request_id()).substr(0, 16);
    EXPECT_EQ(request.seed(), std::stoull(hash, nullptr, 16));
    return grpc::Status::OK;
  });
  MakePool();
  ASSERT_TRUE(pool_->WaitUntilReady(10).ok());
  Verify(3);
  const Verdict verdict = One();
  EXPECT_EQ(verdict.status, VerdictStatus::kScored);
  EXPECT_EQ(verdict.score, 0.5);
  EXPECT_EQ(verdict.verifier, "v");
  EXPECT_EQ(verdict.verifier_version, "1.2.3");
  EXPECT_EQ(verdict.verifier_digest, "digest-1");
  EXPECT_EQ(pool_->State()["v"]["state"], "serving");
  EXPECT_TRUE(pool_->WaitingSeconds().empty());
}

struct Lie {
  const char* name;
  std::function<grpc::Status(v1::VerifyResult*)> tell;
};

TEST_F(VerifierPoolTest, EveryLieIsTriedAgainAndThenAnInfrastructureFailure) {
  const Lie lies[] = {
      {"NaN",
       [](auto* r) {
         r->set_reward(std::nan(""));
         return grpc::Status::OK;
       }},
      {"infinite",
       [](auto* r) {
         r->set_reward(HUGE_VAL);
         return grpc::Status::OK;
       }},
      {"out of range",
       [](auto* r) {
         r->set_reward(17);
         return grpc::Status::OK;
       }},
      {"missing reward",
       [](auto* r) {
         r->clear_reward();
         return grpc::Status::OK;
       }},
      {"wrong id",
       [](auto* r) {
         r->set_request_id("gid/99");
         return grpc::Status::OK;
       }},
      {"no id",
       [](auto* r) {
         r->clear_request_id();
         return grpc::Status::OK;
       }},
      {"no status",
       [](auto* r) {
         r->clear_status();
         return grpc::Status::OK;
       }},
      {"verifier error",
       [](auto* r) {
         r->clear_reward();
         r->set_status(v1::VERIFY_STATUS_VERIFIER_ERROR);
         return grpc::Status::OK;
       }},
      {"internal", [](auto*) { return grpc::Status(grpc::StatusCode::INTERNAL, "boom"); }},
      {"unknown", [](auto*) { return grpc::Status(grpc::StatusCode::UNKNOWN, "boom"); }},
  };
  for (const Lie& lie : lies) {
    TearDown();
    verdicts_.clear();
    port_ = 0;
    StartServer([&](const v1::VerifyRequest&, int, v1::VerifyResult* r) { return lie.tell(r); });
    MakePool(/*max_attempts=*/3, 5,
             {.failures_to_open = 8, .first_pause_ms = 20, .max_pause_ms = 50});
    Verify(0);
    const Verdict verdict = One();
    EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure) << lie.name;
    const Json dead = pool_->State()["v"]["dead_letters"];
    EXPECT_EQ(dead["total"], 1) << lie.name;
    EXPECT_EQ(dead["newest"][0]["tries"], 3) << lie.name;
    EXPECT_THAT(metrics_.Render(),
                HasSubstr("tramontane_verifier_client_dead_letters_total{verifier=\"v\"}"));
    EXPECT_FALSE(verdict.score) << lie.name;
    EXPECT_FALSE(verdict.correct) << lie.name;
    EXPECT_FALSE(verdict.feedback.empty()) << lie.name;
    EXPECT_EQ(service_->calls, 3) << lie.name;
  }
}

TEST_F(VerifierPoolTest, AFailureThatPassesCostsNothing) {
  StartServer([](const v1::VerifyRequest&, int attempt, v1::VerifyResult* r) {
    if (attempt == 1) r->set_reward(std::nan(""));
    if (attempt == 2) return grpc::Status(grpc::StatusCode::INTERNAL, "boom");
    return grpc::Status::OK;
  });
  MakePool(3, 5, {.first_pause_ms = 20});
  for (int i = 0; i < 20; ++i) Verify(i);
  for (const Verdict& verdict : WaitFor(20)) {
    EXPECT_EQ(verdict.status, VerdictStatus::kScored);
    EXPECT_EQ(verdict.score, 0.5);
  }
}

TEST_F(VerifierPoolTest, OverloadIsWaitedOut) {
  StartServer([](const v1::VerifyRequest&, int attempt, v1::VerifyResult* r) {
    if (attempt <= 2) return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
    if (attempt <= 5) {
      r->clear_reward();
      r->set_status(v1::VERIFY_STATUS_OVERLOADED);
    }
    return grpc::Status::OK;
  });
  MakePool(/*max_attempts=*/2);
  Verify(0);
  EXPECT_EQ(One().status, VerdictStatus::kScored);
  EXPECT_EQ(service_->calls, 6);
  EXPECT_EQ(pool_->State()["v"]["dead_letters"]["total"], 0);
}

TEST_F(VerifierPoolTest, ABadRowIsNotTriedAgain) {
  StartServer([](const v1::VerifyRequest&, int, v1::VerifyResult* r) {
    r->clear_reward();
    r->set_status(v1::VERIFY_STATUS_BAD_INPUT);
    r->set_feedback("no gold answer");
    return grpc::Status::OK;
  });
  MakePool();
  Verify(0);
  const Verdict verdict = One();
  EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_FALSE(verdict.score);
  EXPECT_THAT(verdict.feedback, HasSubstr("no gold answer"));
  EXPECT_EQ(service_->calls, 1);
}

TEST_F(VerifierPoolTest, AnExecutionTimeoutIsAVerdictWithoutScore) {
  StartServer([](const v1::VerifyRequest&, int, v1::VerifyResult* r) {
    r->clear_reward();
    r->set_status(v1::VERIFY_STATUS_TIMEOUT);
    return grpc::Status::OK;
  });
  MakePool();
  Verify(0);
  const Verdict verdict = One();
  EXPECT_EQ(verdict.status, VerdictStatus::kTimeout);
  EXPECT_FALSE(verdict.score);
  EXPECT_EQ(service_->calls, 1);
}

TEST_F(VerifierPoolTest, WhatATimeoutIsWorthIsTheConfigurationsToSay) {
  StartServer([](const v1::VerifyRequest&, int, v1::VerifyResult* r) {
    r->clear_reward();
    r->set_status(v1::VERIFY_STATUS_TIMEOUT);
    return grpc::Status::OK;
  });
  VerifierSection section;
  section.timeout_reward = 0;
  MakePool(3, 5, {}, section);
  Verify(0);
  const Verdict verdict = One();
  EXPECT_EQ(verdict.status, VerdictStatus::kPolicyFailure);
  EXPECT_EQ(verdict.score, 0);
}

TEST_F(VerifierPoolTest, ASkippedSampleHasNoScoreAndIsNoFailure) {
  StartServer([](const v1::VerifyRequest&, int, v1::VerifyResult* r) {
    r->clear_reward();
    r->set_status(v1::VERIFY_STATUS_SKIPPED);
    (*r->mutable_metrics())["why"] = 3;
    return grpc::Status::OK;
  });
  MakePool();
  Verify(0);
  const Verdict verdict = One();
  EXPECT_EQ(verdict.status, VerdictStatus::kSkipped);
  EXPECT_FALSE(verdict.score);
  EXPECT_EQ(verdict.metrics.at("why"), 3);
  EXPECT_EQ(service_->calls, 1);
  EXPECT_EQ(pool_->State()["v"]["dead_letters"]["total"], 0);
}

TEST_F(VerifierPoolTest, AHangingVerifierIsGivenUpAtTheDeadline) {
  StartServer([this](const v1::VerifyRequest&, int, v1::VerifyResult*) {
    for (int i = 0; i < 2000 && !over_; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return grpc::Status::OK;
  });
  MakePool(/*max_attempts=*/1, /*timeout_s=*/0.05);
  Verify(0);
  const Verdict verdict = One(10);
  EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_FALSE(verdict.score);
  EXPECT_THAT(verdict.feedback, HasSubstr("DEADLINE_EXCEEDED"));
}

TEST_F(VerifierPoolTest, AVerifierThatRestartsCostsNothingButTime) {
  StartServer(Ok);
  MakePool(/*max_attempts=*/1);  // not one failed attempt is allowed
  ASSERT_TRUE(pool_->WaitUntilReady(10).ok());
  constexpr int kRequests = 400;
  std::thread chaos([&] {
    for (int round = 0; round < 3; ++round) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      server_->Shutdown(std::chrono::system_clock::now());  // cancels what is in flight
      server_.reset();
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      server_ = Serve(service_.get(), &port_);
      EXPECT_NE(server_, nullptr);
    }
  });
  for (int i = 0; i < kRequests; ++i) {
    Verify(i);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  chaos.join();
  for (const Verdict& verdict : WaitFor(kRequests)) {
    EXPECT_EQ(verdict.status, VerdictStatus::kScored) << verdict.feedback;
  }
  EXPECT_GE(pool_->State()["v"]["outages"].get<int>(), 1);
}

TEST_F(VerifierPoolTest, AStoppingVerifierCostsNoAttempt) {
  StartServer([](const v1::VerifyRequest&, int attempt, v1::VerifyResult* r) {
    if (attempt == 1) return grpc::Status(grpc::StatusCode::CANCELLED, "server is stopping");
    if (attempt == 2) {
      r->clear_reward();
      r->set_status(v1::VERIFY_STATUS_CANCELLED);
    }
    return grpc::Status::OK;
  });
  MakePool(/*max_attempts=*/1);
  Verify(0);
  EXPECT_EQ(One().status, VerdictStatus::kScored);
  EXPECT_EQ(service_->calls, 3);
}

TEST_F(VerifierPoolTest, AnAbsentVerifierIsWaitedForAndNamed) {
  StartServer(Ok);
  server_->Shutdown();
  server_.reset();
  MakePool();
  const absl::Status status = pool_->WaitUntilReady(0.3);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("verifier v at 127.0.0.1:"));
  Verify(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_GT(pool_->WaitingSeconds()["verifier v"], 0);
  EXPECT_EQ(pool_->State()["v"]["waiting"], 1);
  server_ = Serve(service_.get(), &port_);
  ASSERT_NE(server_, nullptr);
  EXPECT_EQ(One().status, VerdictStatus::kScored);
}

TEST_F(VerifierPoolTest, VersionSkewIsRefusedWithBothVersions) {
  StartServer(Ok);
  service_->description.mutable_handshake()->set_protocol_version(41);
  MakePool();
  const absl::Status status = pool_->WaitUntilReady(10);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("41"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(kProtocolVersion)));
}

TEST_F(VerifierPoolTest, AConstantLiarIsLeftAloneInsteadOfBurningRequests) {
  StartServer([](const v1::VerifyRequest&, int, v1::VerifyResult* r) {
    r->set_reward(std::nan(""));
    return grpc::Status::OK;
  });
  MakePool(/*max_attempts=*/2, 5,
           {.failures_to_open = 4, .first_pause_ms = 200, .max_pause_ms = 10'000});
  for (int i = 0; i < 200; ++i) Verify(i);
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  // Eight may be in flight when the circuit opens; then one trial at 0.2, 0.6 and 1.4 s.
  EXPECT_LE(service_->calls, 8 + 5);
  std::lock_guard lock(mutex_);
  for (const Verdict& verdict : verdicts_) EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_LE(verdicts_.size(), 8u);
  EXPECT_GT(pool_->WaitingSeconds()["verifier v"], 0);
}

TEST_F(VerifierPoolTest, FewerRequestsAreInFlightThanTwiceTheCapacity) {
  StartServer([](const v1::VerifyRequest&, int, v1::VerifyResult*) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return grpc::Status::OK;
  });
  MakePool();
  for (int i = 0; i < 200; ++i) Verify(i);
  WaitFor(200);
  EXPECT_LE(service_->most_at_once, 8);
  EXPECT_GE(service_->most_at_once, 2);
}

TEST_F(VerifierPoolTest, AChangedDigestIsCountedAndPinnedOntoLaterVerdicts) {
  StartServer(Ok);
  MakePool();
  ASSERT_TRUE(pool_->WaitUntilReady(10).ok());
  Verify(0);
  WaitFor(1);
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
  service_->description.set_digest("digest-2");
  server_ = Serve(service_.get(), &port_);
  ASSERT_NE(server_, nullptr);
  Verify(1);
  const std::vector<Verdict> verdicts = WaitFor(2);
  EXPECT_EQ(verdicts.front().verifier_digest, "digest-1");
  EXPECT_EQ(verdicts.back().verifier_digest, "digest-2");
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("tramontane_verifier_client_digest_changes_total{verifier=\"v\"} 1"));
}

TEST_F(VerifierPoolTest, UnknownVerifiersAreAnInfrastructureFailureAtOnce) {
  StartServer(Ok);
  MakePool();
  PromptRow row;
  row.verifier = "nobody";
  Verdict verdict;
  pool_->Verify(row, Rollout{}, {"gid", "gid#1", 1}, [&](Verdict v) { verdict = std::move(v); });
  EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_THAT(verdict.feedback, HasSubstr("nobody"));
}

TEST_F(VerifierPoolTest, OneStreamCarriesEverythingAndAnswersComeOutOfOrder) {
  StartServer([](const v1::VerifyRequest& request, int, v1::VerifyResult* r) {
    const int index = std::stoi(request.request_id().substr(4));
    if (index % 7 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    r->set_reward(index / 1000.0);
    return grpc::Status::OK;
  });
  MakePool();
  std::map<int, double> scores;  // guarded by mutex_
  for (int i = 0; i < 300; ++i) {
    PromptRow row;
    row.verifier = "v";
    Rollout rollout;
    rollout.sample_index = i;
    pool_->Verify(row, rollout, {"gid", "gid#1", 1}, [&, i](Verdict verdict) {
      std::lock_guard lock(mutex_);
      scores[i] = verdict.score.value_or(-1);
      verdicts_.push_back(std::move(verdict));
      changed_.notify_all();
    });
  }
  WaitFor(300);
  for (int i = 0; i < 300; ++i) EXPECT_DOUBLE_EQ(scores[i], i / 1000.0);
  EXPECT_EQ(service_->streams, 1);
}

// The first replies to two requests that are open at once come under each other's ids.
TEST_F(VerifierPoolTest, RepliesThatChangedPlacesAreFoundAndAskedForAgain) {
  std::mutex mutex;
  std::condition_variable both;
  std::vector<v1::VerifyRequest> first;
  StartServer([&](const v1::VerifyRequest& request, int attempt, v1::VerifyResult* r) {
    v1::VerifyRequest about = request;
    if (attempt == 1) {
      std::unique_lock lock(mutex);
      first.push_back(request);
      both.notify_all();
      both.wait(lock, [&] { return first.size() == 2 || over_; });
      if (first.size() == 2) about = first[first[0].request_id() == request.request_id() ? 1 : 0];
    }
    r->set_reward(about.completion() == "right" ? 1 : 0);
    r->set_judged(JudgedDigest(about));
    return grpc::Status::OK;
  });
  MakePool();
  std::map<int, double> scores;  // guarded by mutex_
  for (int i = 0; i < 2; ++i) {
    PromptRow row;
    row.verifier = "v";
    Rollout rollout;
    rollout.sample_index = i;
    rollout.text = i == 0 ? "right" : "wrong";
    pool_->Verify(row, rollout, {"gid", "gid#1", 1}, [&, i](Verdict verdict) {
      std::lock_guard lock(mutex_);
      scores[i] = verdict.score.value_or(-1);
      verdicts_.push_back(std::move(verdict));
      changed_.notify_all();
    });
  }
  WaitFor(2);
  EXPECT_EQ(scores[0], 1);
  EXPECT_EQ(scores[1], 0);
  EXPECT_GE(service_->calls, 4) << "both were asked again";
}

TEST_F(VerifierPoolTest, ARequestThatBreaksTheStreamIsFoundAndTakesNobodyAlong) {
  StartServer([](const v1::VerifyRequest& request, int, v1::VerifyResult*) {
    const bool poison = request.request_id().starts_with("gid/5/");
    std::this_thread::sleep_for(std::chrono::milliseconds(poison ? 1 : 5));
    return poison ? grpc::Status(grpc::StatusCode::INTERNAL, "boom") : grpc::Status::OK;
  });
  MakePool(/*max_attempts=*/2, 5,
           {.failures_to_open = 8, .first_pause_ms = 10, .max_pause_ms = 20});
  for (int i = 0; i < 40; ++i) Verify(i);
  int failed = 0;
  for (const Verdict& verdict : WaitFor(40)) failed += verdict.status != VerdictStatus::kScored;
  EXPECT_EQ(failed, 1);
  const Json dead = pool_->State()["v"]["dead_letters"];
  ASSERT_EQ(dead["total"], 1);
  EXPECT_THAT(dead["newest"][0]["request"].get<std::string>(), testing::StartsWith("gid/5/"));
}

TEST_F(VerifierPoolTest, GroupScorersAreAskedOnceForTheWholeGroup) {
  StartServer([](const v1::VerifyRequest& request, int, v1::VerifyResult* r) {
    EXPECT_EQ(request.group_size(), 3);
    EXPECT_TRUE(request.completion().empty());
    r->clear_reward();
    for (int i = 0; i < request.group_size(); ++i) {
      v1::VerifyResult* one = r->add_group();
      one->set_status(i == 1 ? v1::VERIFY_STATUS_BAD_INPUT : v1::VERIFY_STATUS_SCORED);
      if (i != 1) one->set_reward(i / 2.0);
    }
    return grpc::Status::OK;
  });
  service_->description.set_group_aware(true);
  MakePool();
  Verify(2, 3);
  Verify(0, 3);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(service_->calls, 0) << "one sample is missing";
  Verify(1, 3);
  const std::vector<Verdict> verdicts = WaitFor(3);  // in the order of the samples
  EXPECT_EQ(service_->calls, 1);
  EXPECT_EQ(verdicts[0].score, 0.0);
  EXPECT_EQ(verdicts[1].status, VerdictStatus::kInfraFailure);
  EXPECT_EQ(verdicts[2].score, 1.0);
  EXPECT_EQ(verdicts[2].verifier_digest, "digest-1");
}

TEST_F(VerifierPoolTest, AGroupReplyOfTheWrongSizeIsTriedAgainForTheWholeGroup) {
  StartServer([](const v1::VerifyRequest& request, int attempt, v1::VerifyResult* r) {
    r->clear_reward();
    for (int i = 0; i < request.group_size() - (attempt == 1 ? 1 : 0); ++i) {
      v1::VerifyResult* one = r->add_group();
      one->set_status(v1::VERIFY_STATUS_SCORED);
      one->set_reward(attempt == 2 && i == 0 ? std::nan("") : 1);
    }
    return grpc::Status::OK;
  });
  service_->description.set_group_aware(true);
  MakePool();
  Verify(0, 2);
  Verify(1, 2);
  for (const Verdict& verdict : WaitFor(2)) EXPECT_EQ(verdict.score, 1.0);
  EXPECT_EQ(service_->calls, 3);
}

TEST_F(VerifierPoolTest, ACancelledGroupIsAnsweredAtOnceAndTheServiceIsTold) {
  StartServer([this](const v1::VerifyRequest& request, int, v1::VerifyResult*) {
    const bool slow = request.request_id().starts_with("gid/0/");
    for (int i = 0; slow && i < 10000 && !over_; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return grpc::Status::OK;
  });
  MakePool();
  ASSERT_TRUE(pool_->WaitUntilReady(30).ok());
  Verify(0, 1, "old#1");
  for (int i = 0; i < 3000 && service_->calls == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(service_->calls, 1);
  pool_->Cancel("old#1");
  EXPECT_EQ(One(30).status, VerdictStatus::kInfraFailure);
  Verify(1, 1, "new#1");
  EXPECT_EQ(WaitFor(2, 30).back().status, VerdictStatus::kScored);
  for (int i = 0; i < 3000 && service_->cancels == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(service_->cancels, 1);
  EXPECT_EQ(pool_->State()["v"]["dead_letters"]["total"], 0);
}

TEST_F(VerifierPoolTest, AServiceThatIsNotTheOnePinnedIsNeverAsked) {
  StartServer(Ok);
  VerifierSection pinned;
  pinned.digest = "digest-0";
  MakePool(3, 5, {.first_pause_ms = 20, .max_pause_ms = 50}, pinned);
  const absl::Status status = pool_->WaitUntilReady(10);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("digest-0"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("digest-1"));
  Verify(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(service_->calls, 0);
  EXPECT_EQ(pool_->State()["v"]["state"], "refused");
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
  service_->description.set_digest("digest-0");
  server_ = Serve(service_.get(), &port_);
  EXPECT_EQ(One().verifier_digest, "digest-0");
}

TEST_F(VerifierPoolTest, RequestsAboveTheServicesLimitAreNotSent) {
  StartServer(Ok);
  service_->description.set_max_request_bytes(64);
  MakePool();
  Verify(0);
  const Verdict verdict = One();
  EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_THAT(verdict.feedback, HasSubstr("64"));
  EXPECT_EQ(service_->calls, 0);
}

TEST_F(VerifierPoolTest, AShadowIsComparedAndItsScoresAreNeverUsed) {
  StartServer(Ok);
  ScriptedVerifier other([](const v1::VerifyRequest& request, int, v1::VerifyResult* r) {
    if (request.request_id().starts_with("gid/0/")) r->set_reward(1);
    return grpc::Status::OK;
  });
  int other_port = 0;
  const std::unique_ptr<grpc::Server> other_server = Serve(&other, &other_port);
  VerifierSection section, shadow;
  section.address = "127.0.0.1:" + std::to_string(port_);
  section.shadow = "next";
  shadow.address = "127.0.0.1:" + std::to_string(other_port);
  auto pool = VerifierPool::Create({{"v", section}, {"next", shadow}}, {}, metrics_, clock_);
  ASSERT_TRUE(pool.ok()) << pool.status();
  pool_ = *std::move(pool);
  for (int i = 0; i < 10; ++i) Verify(i);
  for (const Verdict& verdict : WaitFor(10)) EXPECT_EQ(verdict.score, 0.5);
  Json state = Json::object();
  for (int i = 0; i < 200 && state.value("compared", 0.0) < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    state = pool_->State()["v"]["shadow"];
  }
  EXPECT_EQ(state["compared"], 10);
  EXPECT_EQ(state["differing"], 1);
  EXPECT_DOUBLE_EQ(state["largest_difference"], 0.5);
  EXPECT_DOUBLE_EQ(state["mean_difference"], 0.05);
  pool_.reset();
  other_server->Shutdown(std::chrono::system_clock::now());
}

TEST_F(VerifierPoolTest, ACanaryJudgesItsShareOfTheGroupsAndPinnedRowsTheirVersion) {
  StartServer(Ok);
  ScriptedVerifier other([](const v1::VerifyRequest&, int, v1::VerifyResult* r) {
    r->set_reward(1);
    return grpc::Status::OK;
  });
  other.description.set_version("2.0.0");
  int other_port = 0;
  const std::unique_ptr<grpc::Server> other_server = Serve(&other, &other_port);
  VerifierSection section, canary;
  section.address = "127.0.0.1:" + std::to_string(port_);
  section.version = "1.2.3";
  section.shadow = "next";
  section.shadow_fraction = 0;
  section.canary_fraction = 0.5;
  canary.address = "127.0.0.1:" + std::to_string(other_port);
  canary.version = "2.0.0";
  auto pool = VerifierPool::Create({{"v", section}, {"next", canary}}, {}, metrics_, clock_);
  ASSERT_TRUE(pool.ok()) << pool.status();
  pool_ = *std::move(pool);
  constexpr int kGroups = 40;
  for (const char* named : {"v", "v@1.2.3", "v@2.0.0", "v@3"}) {
    for (int i = 0; i < 2 * kGroups; ++i) {
      PromptRow row;
      row.verifier = named;
      Rollout rollout;
      rollout.sample_index = i % 2;
      const std::string gid = "gid" + std::to_string(i / 2);
      pool_->Verify(
          row, rollout, {gid, gid + named, 2}, [this, key = gid + named](Verdict verdict) {
            std::lock_guard lock(mutex_);
            const double score = verdict.score.value_or(-1);
            EXPECT_EQ(by_group_.emplace(key, score).first->second, score) << "one version";
            verdicts_.push_back(std::move(verdict));
            changed_.notify_all();
          });
    }
  }
  WaitFor(8 * kGroups);
  int judged = 0;
  for (int i = 0; i < kGroups; ++i) {
    const std::string gid = "gid" + std::to_string(i);
    judged += by_group_[gid + "v"] == 1;
    EXPECT_EQ(by_group_[gid + "v@1.2.3"], 0.5);
    EXPECT_EQ(by_group_[gid + "v@2.0.0"], 1);
    EXPECT_EQ(by_group_[gid + "v@3"], -1);
  }
  EXPECT_GT(judged, kGroups / 5);
  EXPECT_LT(judged, kGroups * 4 / 5);
  const Json state = pool_->State()["v"]["shadow"];
  EXPECT_EQ(state["canary"]["scored"], 2 * judged);
  EXPECT_EQ(state["canary"]["mean"], 1.0);
  EXPECT_EQ(state["current"]["scored"], 2 * (kGroups - judged));
  EXPECT_EQ(state["current"]["mean"], 0.5);
  pool_.reset();
  other_server->Shutdown(std::chrono::system_clock::now());
}

TEST_F(VerifierPoolTest, DestructionAnswersEverybodyOnce) {
  StartServer([this](const v1::VerifyRequest&, int, v1::VerifyResult*) {
    for (int i = 0; i < 500 && !over_; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return grpc::Status::OK;
  });
  MakePool();
  ASSERT_TRUE(pool_->WaitUntilReady(10).ok());
  for (int i = 0; i < 50; ++i) Verify(i);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  pool_.reset();
  for (const Verdict& verdict : WaitFor(50)) {
    EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
    EXPECT_FALSE(verdict.score);
  }
}

TEST_F(VerifierPoolTest, ScoresThroughTheRealService) {
  const std::shared_ptr<const Grader> math = *MakeBuiltinGrader("math", RewardSection{});
  MetricsRegistry server_metrics;
  ScoringDesk desk(math, {.threads = 2}, server_metrics);
  VerifierService service(math, {.threads = 2}, desk);
  server_ = Serve(&service, &port_);
  ASSERT_NE(server_, nullptr);
  MakePool();
  for (int i = 0; i < 500; ++i) Verify(i);
  for (const Verdict& verdict : WaitFor(500)) {
    EXPECT_EQ(verdict.score, 1.0);
    EXPECT_EQ(verdict.verifier_digest, math->digest());
  }
  TearDown();
  server_.reset();
}

}  // namespace
}  // namespace tramontane
