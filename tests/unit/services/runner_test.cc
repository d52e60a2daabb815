#include "services/runner.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/clock.h"
#include "services/convert.h"
#include "services/rpc.h"
#include "tramontane/v1/control.grpc.pb.h"

namespace tramontane {
namespace {

RunnerOptions Loopback() {
  return {.process = "test", .bind = "127.0.0.1:0", .drain_deadline_s = 1};
}

template <class Request, class Reply, class Method>
absl::Status Call(const std::string& address, Method method, const Request& request, Reply& reply) {
  const auto stub = v1::Control::NewStub(MakeChannel(address));
  grpc::ClientContext context;
  SetDeadline(context, 5);
  context.set_wait_for_ready(true);
  return FromGrpc((stub.get()->*method)(&context, request, &reply));
}

TEST(RunnerTest, HelloComparesHandshakesAndNamesTheProcess) {
  MetricsRegistry metrics;
  ServiceRunner runner(Loopback(), metrics);
  runner.set_identity({.run_id = "run-1"});
  ASSERT_TRUE(runner.Start().ok());
  v1::HelloRequest request;
  v1::HelloReply reply;
  *request.mutable_handshake() = MakeHandshake({.run_id = "run-1"});
  ASSERT_TRUE(Call(runner.address(), &v1::Control::Stub::Hello, request, reply).ok());
  EXPECT_EQ(reply.process(), "test");
  request.mutable_handshake()->set_run_id("run-2");
  const absl::Status skew = Call(runner.address(), &v1::Control::Stub::Hello, request, reply);
  EXPECT_TRUE(absl::IsFailedPrecondition(skew)) << skew;
  EXPECT_NE(std::string(skew.message()).find("'run-2'"), std::string::npos);
  EXPECT_NE(std::string(skew.message()).find("'run-1'"), std::string::npos);
  EXPECT_EQ(runner.Shutdown(), 0);
}

TEST(RunnerTest, StateComesFromTheCallback) {
  MetricsRegistry metrics;
  ServiceRunner runner(Loopback(), metrics);
  runner.OnState([] {
    ProcessStatus status;
    status.phase = "waiting";
    status.waiting_seconds = {{"groups", 2.5}};
    status.weight_version = 9;
    status.detail = {{"queue", 3}};
    return status;
  });
  ASSERT_TRUE(runner.Start().ok());
  v1::ProcessState state;
  ASSERT_TRUE(Call(runner.address(), &v1::Control::Stub::GetProcessState,
                   v1::GetProcessStateRequest(), state)
                  .ok());
  EXPECT_EQ(state.process(), "test");
  EXPECT_EQ(state.phase(), "waiting");
  EXPECT_EQ(state.waiting_seconds().at("groups"), 2.5);
  EXPECT_EQ(state.weight_version(), 9);
  EXPECT_EQ(FromStruct(state.detail()), Json({{"queue", 3}}));
  EXPECT_EQ(runner.Shutdown(), 0);
}

TEST(RunnerTest, DrainCallsBackWithTheAskedDeadlineAndEndsWithZero) {
  MetricsRegistry metrics;
  ServiceRunner runner(Loopback(), metrics);
  double deadline_s = 0;
  runner.OnDrain([&](double d) { deadline_s = d; });
  ASSERT_TRUE(runner.Start().ok());
  v1::DrainRequest request;
  request.set_deadline_s(3);
  v1::DrainReply reply;
  ASSERT_TRUE(Call(runner.address(), &v1::Control::Stub::Drain, request, reply).ok());
  runner.WaitForStop();
  EXPECT_TRUE(runner.stop());
  EXPECT_EQ(runner.Shutdown(), 0);
  EXPECT_EQ(deadline_s, 3);
}

TEST(RunnerTest, ASignalIsARequestToStop) {
  MetricsRegistry metrics;
  ServiceRunner runner(Loopback(), metrics);
  ASSERT_TRUE(runner.Start().ok());
  ASSERT_EQ(::kill(::getpid(), SIGTERM), 0);
  runner.WaitForStop();
  EXPECT_EQ(runner.Shutdown(), 0);
}

TEST(RunnerTest, ABadReasonToStopBecomesTheExitCode) {
  MetricsRegistry metrics;
  ServiceRunner runner(Loopback(), metrics);
  ASSERT_TRUE(runner.Start().ok());
  runner.RequestStop("test", absl::InternalError("broken"));
  runner.WaitForStop();
  EXPECT_EQ(runner.Shutdown(), 1);
}

TEST(RunnerTest, APortInUseIsNamed) {
  MetricsRegistry metrics, other_metrics;
  ServiceRunner runner(Loopback(), metrics);
  ASSERT_TRUE(runner.Start().ok());
  RunnerOptions options = Loopback();
  options.bind = runner.address();
  ServiceRunner second(options, other_metrics);
  const absl::Status status = second.Start();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(std::string(status.message()).find(runner.address()), std::string::npos) << status;
  EXPECT_NE(std::string(status.message()).find("in use"), std::string::npos) << status;
  EXPECT_EQ(second.Fail(status), 1);
  EXPECT_EQ(runner.Shutdown(), 0);
}

TEST(RunnerTest, TheListeningLineIsWrittenToTheReadyFile) {
  const std::string path = testing::TempDir() + "/ready.json";
  std::filesystem::remove(path);
  MetricsRegistry metrics;
  RunnerOptions options = Loopback();
  options.ready_file = path;
  options.metrics_bind = "127.0.0.1:0";
  options.advertise_host = "localhost";
  ServiceRunner runner(options, metrics);
  ASSERT_TRUE(runner.Start().ok());
  std::ifstream file(path);
  const Json line = Json::parse(file);
  EXPECT_EQ(line["event"], "listening");
  EXPECT_EQ(line["process"], "test");
  EXPECT_EQ(line["address"], runner.address());
  EXPECT_TRUE(runner.address().starts_with("localhost:"));
  EXPECT_EQ(line["metrics_address"], runner.metrics_address());
  EXPECT_FALSE(runner.metrics_address().empty());
  EXPECT_EQ(runner.Shutdown(), 0);
}

}  // namespace
}  // namespace tramontane
