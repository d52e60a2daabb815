#include "services/verifier/service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gated_grader.h"
#include "services/convert.h"
#include "services/handshake.h"
#include "services/rpc.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

using testing::HasSubstr;

v1::VerifyRequest Request(const std::string& id, const std::string& completion) {
  v1::VerifyRequest request;
  request.set_request_id(id);
  request.set_completion(completion);
  request.set_answer("2");
  return request;
}

// A real server on a loopback port with the service under test.
class VerifierServiceTest : public testing::Test {
 protected:
  void Start(std::shared_ptr<const Grader> grader, ScoringOptions options = {}) {
    desk_ = std::make_unique<ScoringDesk>(grader, options, metrics_);
    service_ = std::make_unique<VerifierService>(grader, options, *desk_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::Verifier::NewStub(MakeChannel("127.0.0.1:" + std::to_string(port)));
  }
  void StartGated(ScoringOptions options = {}) {
    gate_ = std::make_shared<GatedGrader>();
    Start(gate_, options);
  }
  void TearDown() override {
    if (gate_) gate_->Release();
    if (server_) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  }

  grpc::Status Verify(const v1::VerifyRequest& request, v1::VerifyResult* result) {
    grpc::ClientContext context;
    SetDeadline(context, 20);
    return stub_->Verify(&context, request, result);
  }

  MetricsRegistry metrics_;
  std::shared_ptr<GatedGrader> gate_;
  std::unique_ptr<ScoringDesk> desk_;
  std::unique_ptr<VerifierService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Verifier::Stub> stub_;
};

TEST_F(VerifierServiceTest, ScoresWithTheBuiltInGrader) {
  Start(*MakeBuiltinGrader("math", RewardSection{}));
  v1::VerifyResult result;
  ASSERT_TRUE(Verify(Request("g/0", "<think>a</think>\\boxed{2}"), &result).ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_SCORED);
  EXPECT_EQ(result.reward(), 1.0);
  EXPECT_TRUE(result.correct());
  EXPECT_EQ(result.request_id(), "g/0");
  EXPECT_EQ(result.extracted(), "2");
  EXPECT_EQ(result.verifier(), "math");
  EXPECT_EQ(result.digest().size(), 64u);
  ASSERT_TRUE(Verify(Request("g/1", "nonsense"), &result).ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_SCORED);
  EXPECT_TRUE(result.has_reward());
  EXPECT_EQ(result.reward(), 0.0);
}

TEST_F(VerifierServiceTest, ARowWithoutGoldAnswerIsBadInputWithoutReward) {
  Start(*MakeBuiltinGrader("math", RewardSection{}));
  v1::VerifyRequest request = Request("g/0", "<think>a</think>\\boxed{2}");
  request.clear_answer();
  v1::VerifyResult result;
  ASSERT_TRUE(Verify(request, &result).ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_BAD_INPUT);
  EXPECT_FALSE(result.has_reward());
  EXPECT_FALSE(result.retryable());
  EXPECT_THAT(result.feedback(), HasSubstr("empty"));
}

TEST_F(VerifierServiceTest, DescribesItselfAndRefusesSkew) {
  Start(*MakeBuiltinGrader("math", RewardSection{}), {.threads = 3});
  v1::DescribeRequest request;
  v1::VerifierDescription description;
  {
    grpc::ClientContext context;
    SetDeadline(context, 20);
    *request.mutable_handshake() = MakeHandshake(Identity{"some-run", "", ""});
    ASSERT_TRUE(stub_->Describe(&context, request, &description).ok());
  }
  EXPECT_EQ(description.name(), "math");
  EXPECT_EQ(description.capacity(), 3u);
  EXPECT_EQ(description.reward_min(), 0);
  EXPECT_EQ(description.reward_max(), 1);
  EXPECT_EQ(description.determinism(), v1::DETERMINISM_PURE);
  EXPECT_EQ(description.max_request_bytes(), static_cast<uint64_t>(kMaxMessageBytes));
  EXPECT_TRUE(FromStruct(description.params_schema())["properties"].contains("decimals"));
  EXPECT_TRUE(CheckHandshake(description.handshake(), Identity{}, "verifier").ok());

  grpc::ClientContext context;
  SetDeadline(context, 20);
  request.mutable_handshake()->set_protocol_version(kProtocolVersion + 7);
  const grpc::Status skew = stub_->Describe(&context, request, &description);
  EXPECT_EQ(skew.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(skew.error_message(), HasSubstr(std::to_string(kProtocolVersion + 7)));
}

TEST_F(VerifierServiceTest, StreamedResultsComeBackInAnyOrder) {
  StartGated({.threads = 2});
  grpc::ClientContext context;
  SetDeadline(context, 20);
  auto stream = stub_->VerifyStream(&context);
  ASSERT_TRUE(stream->Write(Request("slow", "wait: for it")));
  ASSERT_TRUE(stream->Write(Request("fast", "now")));
  v1::VerifyResult result;
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.request_id(), "fast");
  gate_->Release();
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.request_id(), "slow");
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&result));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(VerifierServiceTest, AStreamOfThousandsAnswersEachOnce) {
  Start(*MakeBuiltinGrader("math", RewardSection{}), {.threads = 2});
  constexpr int kRequests = 3000;
  grpc::ClientContext context;
  SetDeadline(context, 60);
  auto stream = stub_->VerifyStream(&context);
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) {
      ASSERT_TRUE(stream->Write(Request("g/" + std::to_string(i),
                                        "<think></think>\\boxed{" + std::to_string(i % 4) + "}")));
    }
    stream->WritesDone();
  });
  std::set<std::string> seen;
  v1::VerifyResult result;
  while (stream->Read(&result)) {
    EXPECT_TRUE(seen.insert(result.request_id()).second) << result.request_id();
    const bool right = std::stoi(result.request_id().substr(2)) % 4 == 2;
    EXPECT_EQ(result.reward(), right ? 1.0 : 0.1);
  }
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(seen.size(), static_cast<size_t>(kRequests));
}

TEST_F(VerifierServiceTest, AnAbandonedStreamLeavesTheServiceWhole) {
  StartGated({.threads = 1});
  {
    grpc::ClientContext context;
    auto stream = stub_->VerifyStream(&context);
    ASSERT_TRUE(stream->Write(Request("slow", "wait: for it")));
    gate_->WaitForCalls(1);
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  gate_->Release();
  v1::VerifyResult result;
  ASSERT_TRUE(Verify(Request("next", "now"), &result).ok());
  EXPECT_EQ(result.reward(), 1.0);
}

TEST_F(VerifierServiceTest, MoreThanTheQueueHoldsIsOverload) {
  StartGated({.threads = 1, .max_waiting = 1});
  grpc::ClientContext context;
  SetDeadline(context, 20);
  auto stream = stub_->VerifyStream(&context);
  ASSERT_TRUE(stream->Write(Request("running", "wait: 1")));
  gate_->WaitForCalls(1);
  ASSERT_TRUE(stream->Write(Request("waiting", "wait: 2")));
  ASSERT_TRUE(stream->Write(Request("refused", "wait: 3")));
  v1::VerifyResult result;
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.request_id(), "refused");
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_OVERLOADED);
  EXPECT_FALSE(result.has_reward());
  EXPECT_TRUE(result.retryable());
  v1::VerifyResult unary;
  EXPECT_EQ(Verify(Request("unary", "x"), &unary).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  gate_->Release();
  std::set<std::string> finished;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(stream->Read(&result));
    EXPECT_EQ(result.status(), v1::VERIFY_STATUS_SCORED);
    finished.insert(result.request_id());
  }
  EXPECT_EQ(finished, (std::set<std::string>{"running", "waiting"}));
  // What was refused was not remembered: the same id is tried now.
  ASSERT_TRUE(Verify(Request("refused", "wait: 3"), &result).ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_SCORED);
}

TEST_F(VerifierServiceTest, CancelEndsWaitingAndRunningRequests) {
  StartGated({.threads = 1});
  grpc::ClientContext context;
  SetDeadline(context, 20);
  auto stream = stub_->VerifyStream(&context);
  ASSERT_TRUE(stream->Write(Request("running", "wait: 1")));
  gate_->WaitForCalls(1);
  ASSERT_TRUE(stream->Write(Request("waiting", "wait: 2")));
  ASSERT_TRUE(stream->Write(Request("marker", "")));
  for (const char* id : {"waiting", "running", "unknown", "running"}) {
    // The stream and this call race: ask until the request is there.
    for (int i = 0; i < 200 && std::string(id) == "waiting" && desk_->waiting() < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    grpc::ClientContext cancel_context;
    SetDeadline(cancel_context, 20);
    v1::CancelRequest cancel;
    cancel.set_request_id(id);
    v1::CancelReply reply;
    EXPECT_TRUE(stub_->Cancel(&cancel_context, cancel, &reply).ok()) << id;
  }
  v1::VerifyResult result;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(stream->Read(&result));
    EXPECT_EQ(result.status(), v1::VERIFY_STATUS_CANCELLED) << result.request_id();
    EXPECT_FALSE(result.has_reward());
  }
  gate_->Release();
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.request_id(), "marker");
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&result)) << "a cancelled request was answered twice";
  EXPECT_EQ(gate_->calls(), 2) << "the one that waited was never run";
}

TEST_F(VerifierServiceTest, AStreamCancelsItsOwnRequestsAndGroupsAreRefused) {
  StartGated({.threads = 1});
  grpc::ClientContext context;
  SetDeadline(context, 20);
  auto stream = stub_->VerifyStream(&context);
  ASSERT_TRUE(stream->Write(Request("running", "wait: 1")));
  gate_->WaitForCalls(1);
  v1::VerifyRequest cancel;
  cancel.set_request_id("running");
  cancel.set_cancel(true);
  ASSERT_TRUE(stream->Write(cancel));
  v1::VerifyResult result;
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.request_id(), "running");
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_CANCELLED);
  gate_->Release();
  v1::VerifyRequest group = Request("group", "");
  group.add_group()->set_completion("x");
  ASSERT_TRUE(stream->Write(group));
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_BAD_INPUT);
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&result)) << "a cancellation is not answered by itself";
}

TEST_F(VerifierServiceTest, ARepeatGetsTheFirstVerdictAndOtherContentDoesNot) {
  StartGated();
  v1::VerifyResult first, second, other;
  ASSERT_TRUE(Verify(Request("g/0", "one"), &first).ok());
  v1::VerifyRequest repeat = Request("g/0", "one");
  repeat.set_exec_timeout_s(3);  // a retry may have more time; it is the same question
  ASSERT_TRUE(Verify(repeat, &second).ok());
  EXPECT_EQ(gate_->calls(), 1);
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  ASSERT_TRUE(Verify(Request("g/0", "another sample of the same group"), &other).ok());
  EXPECT_EQ(gate_->calls(), 2);
  EXPECT_EQ(other.extracted(), "another sample of the same group");
}

TEST_F(VerifierServiceTest, ARepeatOfARunningRequestJoinsIt) {
  StartGated({.threads = 2});
  v1::VerifyResult a, b;
  auto first =
      std::async(std::launch::async, [&] { return Verify(Request("g/0", "wait: x"), &a); });
  gate_->WaitForCalls(1);
  auto second =
      std::async(std::launch::async, [&] { return Verify(Request("g/0", "wait: x"), &b); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  gate_->Release();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_EQ(gate_->calls(), 1);
  EXPECT_EQ(a.SerializeAsString(), b.SerializeAsString());
}

TEST_F(VerifierServiceTest, RemembersABoundedNumberOfVerdicts) {
  StartGated({.max_remembered = 2});
  v1::VerifyResult result;
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(Verify(Request(id, "x"), &result).ok());
  ASSERT_TRUE(Verify(Request("c", "x"), &result).ok());
  EXPECT_EQ(gate_->calls(), 3);
  ASSERT_TRUE(Verify(Request("a", "x"), &result).ok());
  EXPECT_EQ(gate_->calls(), 4) << "the oldest was forgotten";
}

TEST_F(VerifierServiceTest, WaitingTooLongIsOverloadAndNotATimeout) {
  StartGated({.threads = 1});
  v1::VerifyResult running, late;
  auto first =
      std::async(std::launch::async, [&] { return Verify(Request("a", "wait: x"), &running); });
  gate_->WaitForCalls(1);
  v1::VerifyRequest request = Request("b", "y");
  request.set_queue_deadline_s(0.01);
  request.set_exec_timeout_s(20);
  auto second = std::async(std::launch::async, [&] { return Verify(request, &late); });
  for (int i = 0; i < 500 && desk_->waiting() < 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  gate_->Release();
  EXPECT_TRUE(first.get().ok());
  EXPECT_EQ(second.get().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(gate_->calls(), 1);
}

TEST_F(VerifierServiceTest, TheExecutionClockLeavesWaitingOut) {
  StartGated({.threads = 1});
  v1::VerifyResult running, queued;
  auto first =
      std::async(std::launch::async, [&] { return Verify(Request("a", "wait: x"), &running); });
  gate_->WaitForCalls(1);
  v1::VerifyRequest request = Request("b", "y");
  request.set_exec_timeout_s(1);
  auto second = std::async(std::launch::async, [&] { return Verify(request, &queued); });
  for (int i = 0; i < 500 && desk_->waiting() < 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::this_thread::sleep_for(
      std::chrono::milliseconds(1100));  // longer than the execution may take
  gate_->Release();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_EQ(queued.status(), v1::VERIFY_STATUS_SCORED);
  EXPECT_GE(queued.queue_seconds(), 1.1);
  EXPECT_LT(queued.exec_seconds(), 1);
}

TEST_F(VerifierServiceTest, SlowExecutionIsATimeoutWithoutReward) {
  StartGated({.threads = 1});
  v1::VerifyRequest request = Request("a", "wait: x");
  request.set_exec_timeout_s(0.05);
  v1::VerifyResult result;
  auto call = std::async(std::launch::async, [&] { return Verify(request, &result); });
  gate_->WaitForCalls(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  gate_->Release();
  EXPECT_TRUE(call.get().ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_TIMEOUT);
  EXPECT_FALSE(result.has_reward());
}

TEST_F(VerifierServiceTest, AGraderIsToldWhenItsTimeIsOver) {
  StartGated({.threads = 1});
  v1::VerifyRequest request = Request("a", "stop: x");
  request.set_exec_timeout_s(0.05);
  v1::VerifyResult result;
  ASSERT_TRUE(Verify(request, &result).ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_TIMEOUT);
  EXPECT_LT(result.exec_seconds(), 15);
}

TEST_F(VerifierServiceTest, CancellingReachesEveryContentOfAnIdAndFreesTheWorker) {
  StartGated({.threads = 1});
  grpc::ClientContext context;
  SetDeadline(context, 60);
  auto stream = stub_->VerifyStream(&context);
  ASSERT_TRUE(stream->Write(Request("a", "stop: first")));
  gate_->WaitForCalls(1);
  ASSERT_TRUE(stream->Write(Request("a", "stop: second")));
  ASSERT_TRUE(stream->Write(Request("", "anonymous")));
  v1::VerifyRequest nobody;
  nobody.set_cancel(true);
  ASSERT_TRUE(stream->Write(nobody));
  v1::VerifyRequest cancel = nobody;
  cancel.set_request_id("a");
  ASSERT_TRUE(stream->Write(cancel));
  std::map<std::string, std::vector<v1::VerifyStatus>> statuses;
  v1::VerifyResult result;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stream->Read(&result));
    statuses[result.request_id()].push_back(result.status());
  }
  EXPECT_EQ(statuses["a"], std::vector<v1::VerifyStatus>(2, v1::VERIFY_STATUS_CANCELLED));
  EXPECT_EQ(statuses[""], std::vector<v1::VerifyStatus>{v1::VERIFY_STATUS_SCORED});
  EXPECT_EQ(gate_->calls(), 2) << "the second content was cancelled before its turn";
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(VerifierServiceTest, WhatIsTheRowsOrTheSandboxsFaultIsSaidSo) {
  StartGated();
  for (const auto& [fault, status] : {std::pair{"row", v1::VERIFY_STATUS_BAD_INPUT},
                                      std::pair{"sandbox", v1::VERIFY_STATUS_SANDBOX_ERROR}}) {
    v1::VerifyRequest request = Request(fault, "x");
    (*request.mutable_params()->mutable_fields())["fault"].set_string_value(fault);
    v1::VerifyResult result;
    ASSERT_TRUE(Verify(request, &result).ok());
    EXPECT_EQ(result.status(), status);
    EXPECT_FALSE(result.has_reward());
  }
}

TEST_F(VerifierServiceTest, DrainFinishesWhatIsHeldAndRefusesTheRest) {
  StartGated({.threads = 1});
  v1::VerifyResult result, refused;
  auto call =
      std::async(std::launch::async, [&] { return Verify(Request("a", "wait: x"), &result); });
  gate_->WaitForCalls(1);
  auto drain = std::async(std::launch::async, [&] { desk_->Drain(); });
  grpc::Status status;
  for (int i = 0; i < 200 && status.ok(); ++i) {  // until the drain has begun
    auto late = std::async(std::launch::async, [&] { return Verify(Request("", "y"), &refused); });
    if (late.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout)
      gate_->Release();
    status = late.get();
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  gate_->Release();
  drain.get();
  EXPECT_TRUE(call.get().ok());
  EXPECT_EQ(result.status(), v1::VERIFY_STATUS_SCORED);
}

TEST_F(VerifierServiceTest, CountsResultsByStatus) {
  Start(*MakeBuiltinGrader("math", RewardSection{}));
  v1::VerifyResult result;
  ASSERT_TRUE(Verify(Request("a", "x"), &result).ok());
  ASSERT_TRUE(Verify(Request("b", "y"), &result).ok());
  const std::string text = metrics_.Render();
  EXPECT_THAT(
      text, HasSubstr("tramontane_verifier_results_total{status=\"scored\",verifier=\"math\"} 2"));
  EXPECT_THAT(text, HasSubstr("tramontane_verifier_in_flight{verifier=\"math\"} 0"));
}

}  // namespace
}  // namespace tramontane
