// Verifiers that answer with anything: no reply of theirs may crash a generator or become a reward
// that nobody gave, the honest verdicts in between must all arrive, and what is given up is given
// up after three tries and can be seen.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "services/verifier/client.h"
#include "tests/unit/verifier_service/hostile_services.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

// The circuit is for services that are away, here: what a liar costs is client_test.cc's.
constexpr CircuitOptions kTrusting{
    .failures_to_open = 1 << 20, .first_pause_ms = 1, .max_pause_ms = 5};

VerifierSection Section(int port, double timeout_s = 60) {
  VerifierSection section;
  section.address = "127.0.0.1:" + std::to_string(port);
  section.request_timeout_s = timeout_s;
  return section;
}

// Asks several verifiers and keeps what they say by verifier and sample.
class Crowd {
 public:
  explicit Crowd(const std::map<std::string, VerifierSection>& verifiers) {
    pool_ = *VerifierPool::Create(verifiers, {.circuit = kTrusting}, metrics_, clock_);
  }

  void Ask(const std::string& verifier, Order order, int group = 1) {
    PromptRow row;
    row.verifier = verifier;
    Rollout rollout;
    const int number = asked_++;
    rollout.sample_index = group == 1 ? number : number % group;
    rollout.text = order.ToString();
    const std::string owner = "owner" + std::to_string(number / group);
    pool_->Verify(row, rollout, {"gid" + owner, owner, group}, [=, this](Verdict verdict) {
      std::lock_guard lock(mutex_);
      EXPECT_TRUE(said_.emplace(number, Said{verifier, order, std::move(verdict)}).second)
          << "told twice";
      changed_.notify_all();
    });
  }

  struct Said {
    std::string verifier;
    Order order;
    Verdict verdict;
  };
  std::map<int, Said> WaitForAll() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(240), [&] { return said_.size() == asked_; });
    EXPECT_EQ(said_.size(), asked_);
    return said_;
  }
  Json StateOf(const std::string& verifier) const { return pool_->State()[verifier]; }
  std::string Metrics() const { return metrics_.Render(); }

 private:
  MetricsRegistry metrics_;
  SystemClock clock_;
  size_t asked_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, Said> said_;
  std::unique_ptr<VerifierPool> pool_;  // dies first: its callbacks use the others
};

// A service that follows a script, on a port of its own.
class ScriptedServer {
 public:
  explicit ScriptedServer(ScriptedVerifier::Script script) : verifier(std::move(script)) {}
  void Start() { server_ = Serve(&verifier, &port_); }
  ~ScriptedServer() { server_->Shutdown(std::chrono::system_clock::now()); }
  int port() const { return port_; }

  ScriptedVerifier verifier;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// Wakes the slow ones at the end.
class Gate {
 public:
  ~Gate() { Open(); }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// Where one request ends what all share, nobody can say how often one that ends it twice was tried.
Mood MoodOf(const std::string& verifier, int number) {
  const Mood mood = static_cast<Mood>(number);
  const bool shares = verifier == "breaker" || verifier == "garbage" || verifier == "truncated";
  return shares && mood == Mood::kTwice ? Mood::kNever : mood;
}

constexpr int kOfAKind = 40, kOfAMood = kOfAKind / kMoods;

class HostileVerifierTest : public testing::Test {
 protected:
  HostileVerifierTest() {
    late_.verifier.description.set_capacity(128);  // the late ones wait all at once
    late_.verifier.more = [](const v1::VerifyRequest& request, int) {
      std::vector<v1::VerifyResult> more;
      if (Order::Parse(request.completion()).kind != 2) return more;
      more.resize(2);  // the same question answered again, and differently
      for (v1::VerifyResult& result : more) {
        result.set_request_id(request.request_id());
        result.set_status(v1::VERIFY_STATUS_SCORED);
        result.set_reward(0.9);
      }
      return more;
    };
    groups_.verifier.description.set_group_aware(true);
    for (ScriptedServer* server : {&liar_, &late_, &breaker_, &groups_}) server->Start();
  }
  ~HostileVerifierTest() override { gate_.Open(); }

  static grpc::Status AnswerGroup(const v1::VerifyRequest& request, int attempt,
                                  v1::VerifyResult* result) {
    const Order order = Order::Parse(request.group(0).completion());
    result->clear_reward();
    for (int i = 0; i < request.group_size(); ++i) {
      result->add_group()->set_status(v1::VERIFY_STATUS_SCORED);
      result->mutable_group(i)->set_reward(0.5);
    }
    if (order.Misbehaves(attempt)) TellGroupLie(order.kind, result);
    return grpc::Status::OK;
  }
  grpc::Status AnswerLate(const v1::VerifyRequest& request, int attempt, v1::VerifyResult* result) {
    const Order order = Order::Parse(request.completion());
    if (!order.Misbehaves(attempt)) return grpc::Status::OK;
    if (order.kind == 0) gate_.Wait();
    if (order.kind == 1) result->set_request_id("gid/7/somebody-elses");
    return grpc::Status::OK;
  }
  static grpc::Status AnswerAndBreak(const v1::VerifyRequest& request, int attempt,
                                     v1::VerifyResult*) {
    const Order order = Order::Parse(request.completion());
    if (!order.Misbehaves(attempt)) return grpc::Status::OK;
    if (order.kind == 0) return grpc::Status(grpc::StatusCode::INTERNAL, "boom");
    return grpc::Status(grpc::StatusCode::DATA_LOSS, std::string(4000, '!'));
  }

  Gate gate_;
  ScriptedServer liar_{[](const v1::VerifyRequest& request, int attempt, v1::VerifyResult* result) {
    const Order order = Order::Parse(request.completion());
    if (order.Misbehaves(attempt)) TellLie(order.kind, result);
    return grpc::Status::OK;
  }};
  ScriptedServer late_{
      [this](const v1::VerifyRequest& request, int attempt, v1::VerifyResult* result) {
        return AnswerLate(request, attempt, result);
      }};
  ScriptedServer breaker_{AnswerAndBreak}, groups_{AnswerGroup};
  GarbageVerifier garbage_{"\xff\xff\xff\xff garbage"}, truncated_{std::string("\x0a\x7f only", 7)};
  KillableVerifier killed_;
};

TEST_F(HostileVerifierTest, AThousandRepliesOfEveryKindBecomeNoWrongReward) {
  Crowd crowd({{"liar", Section(liar_.port())},
               {"late", Section(late_.port(), /*timeout_s=*/0.05)},
               {"breaker", Section(breaker_.port())},
               {"groups", Section(groups_.port())},
               {"garbage", Section(garbage_.port())},
               {"truncated", Section(truncated_.port())},
               {"killed", Section(killed_.port())}});
  const std::map<std::string, int> kinds = {
      {"liar", kLies}, {"late", 3},      {"breaker", 2}, {"groups", kGroupLies},
      {"garbage", 1},  {"truncated", 1}, {"killed", 1}};
  int requests = 0;
  for (const auto& [verifier, count] : kinds) {
    for (int i = 0; i < count * kOfAKind; ++i, ++requests) {
      const int group = verifier == "groups" ? 2 : 1;
      crowd.Ask(verifier, {i / kOfAKind, MoodOf(verifier, i / group % kMoods)}, group);
    }
  }
  ASSERT_EQ(requests, 1000);

  std::map<std::string, int> dead, scored;
  for (const auto& [number, said] : crowd.WaitForAll()) {
    const bool twice_answered = said.verifier == "late" && said.order.kind == 2;
    const std::string what = said.verifier + " " + said.order.ToString();
    if (said.order.mood == Mood::kAlways && !twice_answered) {
      ++dead[said.verifier];
      EXPECT_EQ(said.verdict.status, VerdictStatus::kInfraFailure) << what;
      EXPECT_FALSE(said.verdict.score) << what;
    } else {
      ++scored[said.verifier];
      EXPECT_EQ(said.verdict.status, VerdictStatus::kScored) << what << said.verdict.feedback;
      EXPECT_EQ(said.verdict.score, 0.5) << what;
    }
  }
  const std::string metrics = crowd.Metrics();
  for (const auto& [verifier, count] : kinds) {
    const int bad_kinds = verifier == "late" ? 2 : count;
    EXPECT_EQ(dead[verifier], bad_kinds * kOfAMood) << verifier;
    const int letters = dead[verifier] / (verifier == "groups" ? 2 : 1);
    const Json state = crowd.StateOf(verifier)["dead_letters"];
    EXPECT_EQ(state["total"], letters);
    // Where an error ends what all share, that comes on top: it is no try of anybody's.
    const bool shared = verifier == "breaker" || verifier == "garbage" || verifier == "truncated";
    for (const Json& letter : state["newest"]) {
      EXPECT_GE(letter["tries"], 3) << verifier << ": " << letter;
      EXPECT_LE(letter["tries"], shared ? 6 : 3) << verifier << ": " << letter;
    }
    const std::string label = "{verifier=\"" + verifier + "\"} ";
    EXPECT_THAT(metrics, HasSubstr("tramontane_verifier_client_dead_letters_total" + label +
                                   std::to_string(letters) + "\n"));
    for (const auto& [status, number] :
         {std::pair{"scored", scored[verifier]}, std::pair{"infra_failure", dead[verifier]}}) {
      EXPECT_THAT(metrics, HasSubstr("tramontane_verifier_client_verdicts_total{status=\"" +
                                     std::string(status) + "\",verifier=\"" + verifier + "\"} " +
                                     std::to_string(number) + "\n"));
    }
  }
  EXPECT_GE(killed_.deaths(), 3);
  EXPECT_GE(late_.verifier.cancels, 3 * kOfAMood) << "it is told that nobody waits any more";
  EXPECT_THAT(
      metrics,
      Not(HasSubstr("tramontane_verifier_client_stray_replies_total{verifier=\"late\"} 0")));
}

}  // namespace
}  // namespace tramontane
