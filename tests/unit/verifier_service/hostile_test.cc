// A verifier that answers with anything: no reply of it may crash a generator or become a reward that
// nobody gave, and the honest verdicts in between must all arrive.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <condition_variable>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "services/verifier/client.h"
#include "tests/unit/verifier_service/scripted_verifier.h"

namespace tramontane {
namespace {

constexpr CircuitOptions kQuick{.failures_to_open = 8, .first_pause_ms = 1, .max_pause_ms = 5};

// Collects verdicts by sample.
class Collector {
 public:
  Collector(int port, double timeout_s, int max_attempts = 3) {
    VerifierSection section;
    section.address = "127.0.0.1:" + std::to_string(port);
    section.request_timeout_s = timeout_s;
    section.max_attempts = max_attempts;
    pool_ = *VerifierPool::Create({{"v", section}}, {.circuit = kQuick}, metrics_, clock_);
  }
  void Ask(int index) {
    PromptRow row;
    row.verifier = "v";
    Rollout rollout;
    rollout.sample_index = index;
    rollout.text = std::to_string(index);
    pool_->Verify(row, rollout, {"gid", "owner", 1}, [this, index](Verdict verdict) {
      std::lock_guard lock(mutex_);
      EXPECT_FALSE(verdicts_.contains(index)) << "told twice";
      verdicts_[index] = std::move(verdict);
      changed_.notify_all();
    });
  }
  std::map<int, Verdict> WaitFor(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return verdicts_.size() >= count; });
    EXPECT_EQ(verdicts_.size(), count);
    return verdicts_;
  }
  Json State() const { return pool_->State()["v"]; }

 private:
  MetricsRegistry metrics_;
  SystemClock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, Verdict> verdicts_;
  std::unique_ptr<VerifierPool> pool_;  // dies first: its callbacks use the others
};

// What a request meets. Every tenth is always lied to, every third only at first.
constexpr int kWays = 12;
bool Always(int index) { return index % 10 == 0; }
bool AtFirst(int index) { return index % 3 == 0; }

grpc::Status Lie(int way, v1::VerifyResult* r, const std::string& id) {
  const double inf = std::numeric_limits<double>::infinity();
  switch (way) {
    case 0: r->set_reward(std::nan("")); break;
    case 1: r->set_reward(-inf); break;
    case 2: r->set_reward(1e300); break;
    case 3: r->clear_reward(); break;
    case 4: r->set_status(v1::VERIFY_STATUS_TIMEOUT); break;  // with a reward
    case 5: r->set_status(static_cast<v1::VerifyStatus>(77)); break;
    case 6: (*r->mutable_components())["x"] = inf; break;
    case 7: r->set_exec_seconds(std::nan("")); break;
    case 8: r->set_status(v1::VERIFY_STATUS_VERIFIER_ERROR); r->clear_reward(); break;
    case 9: r->clear_status(); break;
    case 10: return grpc::Status(grpc::StatusCode::INTERNAL, "boom at " + id);
    default: return grpc::Status(grpc::StatusCode::DATA_LOSS, std::string(4000, '!'));
  }
  return grpc::Status::OK;
}

TEST(HostileVerifierTest, AThousandRepliesOfEveryKindBecomeNoWrongReward) {
  constexpr int kRequests = 1000;
  ScriptedVerifier verifier([](const v1::VerifyRequest& request, int attempt, v1::VerifyResult* r) {
    const int index = std::stoi(request.completion());
    r->set_reward(index / 1000.0);
    if (Always(index) || (AtFirst(index) && attempt == 1)) {
      return Lie(index / 10 % kWays, r, request.request_id());
    }
    return grpc::Status::OK;
  });
  int port = 0;
  const std::unique_ptr<grpc::Server> server = Serve(&verifier, &port);
  int dead = 0;
  {
    Collector collector(port, /*timeout_s=*/5);
    for (int i = 0; i < kRequests; ++i) collector.Ask(i);
    for (const auto& [index, verdict] : collector.WaitFor(kRequests)) {
      if (Always(index)) {
        ++dead;
        EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure) << index;
        EXPECT_FALSE(verdict.score) << index;
      } else {
        EXPECT_EQ(verdict.status, VerdictStatus::kScored) << index << ": " << verdict.feedback;
        EXPECT_EQ(verdict.score, index / 1000.0);
      }
    }
    EXPECT_EQ(collector.State()["dead_letters"]["total"], dead);
    EXPECT_EQ(collector.State()["dead_letters"]["newest"].size(), 16u);
  }
  server->Shutdown(std::chrono::system_clock::now());
}

TEST(HostileVerifierTest, SlowRequestsAreGivenUpAndTheOthersGoOn) {
  std::atomic<bool> over = false;
  ScriptedVerifier verifier([&over](const v1::VerifyRequest& request, int, v1::VerifyResult*) {
    const bool slow = std::stoi(request.completion()) % 60 == 0;
    for (int i = 0; slow && i < 2000 && !over; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return grpc::Status::OK;
  });
  int port = 0;
  const std::unique_ptr<grpc::Server> server = Serve(&verifier, &port);
  {
    Collector collector(port, /*timeout_s=*/0.01, /*max_attempts=*/1);
    for (int i = 0; i < 60; ++i) collector.Ask(i);
    for (const auto& [index, verdict] : collector.WaitFor(60)) {
      EXPECT_EQ(verdict.score.has_value(), index % 60 != 0) << index;
    }
    EXPECT_EQ(collector.State()["dead_letters"]["total"], 1);
  }
  EXPECT_GE(verifier.cancels, 1) << "the service is told that nobody waits any more";
  over = true;
  server->Shutdown(std::chrono::system_clock::now());
}

// Speaks gRPC and nothing of the contract: every message after Describe is the same bytes.
class GarbageService final : public grpc::CallbackGenericService {
 public:
  explicit GarbageService(std::string bytes) : bytes_(std::move(bytes)) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new Reactor(context->method(), bytes_);
  }

 private:
  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    Reactor(const std::string& method, const std::string& bytes)
        : describe_(method.ends_with("/Describe")), bytes_(bytes) {
      if (!describe_ && !method.ends_with("/VerifyStream")) {
        Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "only garbage here"));
        return;
      }
      StartRead(&in_);
    }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      std::string bytes = bytes_;
      if (describe_) {
        v1::VerifierDescription description;
        *description.mutable_handshake() = MakeHandshake(Identity{});
        description.set_capacity(4);
        bytes = description.SerializeAsString();
      }
      grpc::Slice slice(bytes);
      out_ = grpc::ByteBuffer(&slice, 1);
      StartWrite(&out_);
    }
    void OnWriteDone(bool ok) override {
      if (!ok || describe_) return Finish(grpc::Status::OK);
      StartRead(&in_);
    }
    void OnDone() override { delete this; }

   private:
    const bool describe_;
    const std::string bytes_;
    grpc::ByteBuffer in_, out_;
  };
  const std::string bytes_;
};

TEST(HostileVerifierTest, BytesThatAreNoMessageAreNoReward) {
  v1::VerifyResult valid;
  valid.set_status(v1::VERIFY_STATUS_SCORED);
  valid.set_reward(1);
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff garbage"), std::string(),
                                   std::string(100'000, '\x01'), valid.SerializeAsString()}) {
    GarbageService service(bytes);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterCallbackGenericService(&service);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    {
      Collector collector(port, /*timeout_s=*/0.01, /*max_attempts=*/1);
      for (int i = 0; i < 2; ++i) collector.Ask(i);
      for (const auto& [index, verdict] : collector.WaitFor(2)) {
        EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
        EXPECT_FALSE(verdict.score);
      }
    }
    server->Shutdown(std::chrono::system_clock::now());
  }
}

}  // namespace
}  // namespace tramontane
