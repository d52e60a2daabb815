// Environments over real gRPC: a service that says and fails what the test tells it.
#include "services/generator/environments.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>

#include "services/convert.h"
#include "services/rpc.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

class ToldEnvironment final : public v1::Environment::Service {
 public:
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeEnvironmentRequest*,
                        v1::EnvironmentDescription* reply) override {
    *reply->mutable_handshake() = MakeHandshake(Identity());
    if (skewed) reply->mutable_handshake()->set_protocol_version(99);
    reply->set_name("told");
    reply->set_version("1.0.0");
    reply->set_digest("abc");
    return grpc::Status::OK;
  }
  grpc::Status Reset(grpc::ServerContext*, const v1::ResetRequest* request,
                     v1::ResetReply* reply) override {
    if (const auto code = NextFailure(); code != grpc::OK) return {code, "told to"};
    std::lock_guard lock(mutex);
    reset = *request;
    reply->mutable_observation()->set_text("seen");
    return grpc::Status::OK;
  }
  grpc::Status Step(grpc::ServerContext*, const v1::StepRequest* request,
                    v1::StepReply* reply) override {
    if (const auto code = NextFailure(); code != grpc::OK) return {code, "told to"};
    std::lock_guard lock(mutex);
    step = *request;
    reply->set_reward(reward);
    reply->set_done(true);
    (*reply->mutable_metrics())["m"] = 2;
    return grpc::Status::OK;
  }
  grpc::Status Close(grpc::ServerContext*, const v1::CloseRequest*, v1::CloseReply*) override {
    return grpc::Status::OK;
  }
  void FailNext(std::vector<grpc::StatusCode> codes) {
    std::lock_guard lock(mutex);
    failures = std::move(codes);
  }
  size_t failures_left() {
    std::lock_guard lock(mutex);
    return failures.size();
  }

  std::atomic<bool> skewed = false;
  std::atomic<double> reward = 0.5;
  std::mutex mutex;
  v1::ResetRequest reset;  // guarded by mutex, as all that follow
  v1::StepRequest step;
  std::vector<grpc::StatusCode> failures;

 private:
  grpc::StatusCode NextFailure() {
    std::lock_guard lock(mutex);
    if (failures.empty()) return grpc::OK;
    const grpc::StatusCode code = failures.front();
    failures.erase(failures.begin());
    return code;
  }
};

class EnvironmentClientTest : public ::testing::Test {
 protected:
  ~EnvironmentClientTest() override {
    client_.reset();
    if (server_ != nullptr) server_->Shutdown();
  }
  void Serve(const std::string& address = "127.0.0.1:0") {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    section_.address = "127.0.0.1:" + std::to_string(port);
  }
  void Connect() { client_.emplace("told", section_, Identity(), metrics_); }
  absl::StatusOr<EnvironmentObservation> Reset(const PromptRow& row = {}) {
    std::promise<absl::StatusOr<EnvironmentObservation>> told;
    client_->Hooks().reset("e", row, 7, [&told](auto seen) { told.set_value(std::move(seen)); });
    return told.get_future().get();
  }
  absl::StatusOr<EnvironmentStep> Step(const Rollout& action = {}) {
    std::promise<absl::StatusOr<EnvironmentStep>> told;
    client_->Hooks().step("e", 3, action, [&told](auto step) { told.set_value(std::move(step)); });
    return told.get_future().get();
  }

  VerifierSection section_;
  MetricsRegistry metrics_;
  ToldEnvironment service_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<EnvironmentClient> client_;
};

TEST_F(EnvironmentClientTest, CarriesRowsAndActionsThereAndStepsBack) {
  Serve();
  Connect();
  ASSERT_TRUE(client_->WaitUntilReady(20).ok());
  EXPECT_EQ(client_->Hooks().name().digest, "abc");
  PromptRow row;
  row.prompt = "2+2";
  row.answer = "4";
  row.params = {{"level", 3}};
  row.messages = {{"user", "2+2"}};
  const auto seen = Reset(row);
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(seen->text, "seen");
  EXPECT_EQ(service_.reset.answer() + service_.reset.messages(0).content(), "42+2");
  EXPECT_EQ(service_.reset.seed(), 7u);
  EXPECT_EQ(FromStruct(service_.reset.params()), row.params);
  Rollout action;
  action.text = "four";
  action.tokens = {1, 2};
  action.finish_reason = FinishReason::kLength;
  const auto step = Step(action);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(step->reward, 0.5);
  EXPECT_TRUE(step->done);
  EXPECT_EQ(step->metrics.at("m"), 2);
  EXPECT_EQ(service_.step.turn(), 3u);
  EXPECT_EQ(service_.step.action(), "four");
  EXPECT_EQ(service_.step.tokens_size(), 2);
  EXPECT_EQ(service_.step.finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(EnvironmentClientTest, RepeatsWhatMayPassAndGivesUpOnTheRest) {
  section_.max_attempts = 3;
  Serve();
  Connect();
  service_.FailNext({grpc::INTERNAL, grpc::RESOURCE_EXHAUSTED, grpc::UNKNOWN});
  EXPECT_TRUE(Step().ok());
  service_.FailNext({grpc::INTERNAL, grpc::INTERNAL, grpc::INTERNAL, grpc::INTERNAL});
  EXPECT_TRUE(absl::IsInternal(Step().status()));
  EXPECT_EQ(service_.failures_left(), 1u);
  service_.FailNext({grpc::NOT_FOUND});
  EXPECT_TRUE(absl::IsNotFound(Step().status()));
  service_.FailNext({grpc::INVALID_ARGUMENT});
  EXPECT_TRUE(absl::IsInvalidArgument(Reset().status()));
  service_.reward = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(absl::IsDataLoss(Step().status()));
}

TEST_F(EnvironmentClientTest, OneThatIsAwayIsWaitedFor) {
  Serve();
  const std::string address = section_.address;
  server_->Shutdown();
  server_.reset();
  section_.max_attempts = 1;
  Connect();
  std::promise<absl::StatusOr<EnvironmentObservation>> told;
  client_->Hooks().reset("e", {}, 7, [&told](auto seen) { told.set_value(std::move(seen)); });
  auto seen = told.get_future();
  EXPECT_EQ(seen.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  EXPECT_GT(client_->AwaySeconds(), 0);
  EXPECT_TRUE(absl::IsUnavailable(client_->WaitUntilReady(0.01)));
  Serve(address);
  EXPECT_TRUE(seen.get().ok());
  EXPECT_TRUE(client_->WaitUntilReady(20).ok());
  EXPECT_EQ(client_->AwaySeconds(), 0);
}

TEST_F(EnvironmentClientTest, EndsWithWhatItWaitsFor) {
  Serve();
  server_->Shutdown();
  server_.reset();
  Connect();
  std::promise<absl::Status> told;
  client_->Hooks().reset("e", {}, 7, [&told](auto seen) { told.set_value(seen.status()); });
  client_.reset();
  EXPECT_TRUE(absl::IsCancelled(told.get_future().get()));
}

TEST_F(EnvironmentClientTest, AnotherProtocolOrVersionIsRefused) {
  Serve();
  section_.version = "2.0.0";
  Connect();
  const absl::Status pinned = client_->WaitUntilReady(20);
  EXPECT_TRUE(absl::IsFailedPrecondition(pinned));
  EXPECT_THAT(std::string(pinned.message()), HasSubstr("verifiers.told.version pins 2.0.0"));
  section_.version = "";
  service_.skewed = true;
  client_.reset();
  Connect();
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->WaitUntilReady(20)));
}

TEST(Environments, AreTheVerifiersWithAnEpisodeAndBadOnesNameTheirField) {
  const auto tokenizer = *Tokenizer::Load(SourceFile("examples/demo/tokenizer"));
  const auto make = [&](const char* episode) {
    std::map<std::string, VerifierSection> verifiers;
    verifiers["math"].address = "127.0.0.1:1";
    verifiers["world"].address = "127.0.0.1:1";
    verifiers["world"].version = "1";
    verifiers["world"].params["episode"] = Json::parse(episode);
    static MetricsRegistry metrics;
    return Environments::Create(verifiers, {.size_limit = 100, .most_episodes = 4},
                                {.submit = nullptr, .cancel = nullptr, .stats = nullptr}, tokenizer,
                                metrics);
  };
  const auto good = make(R"({"max_turns": 3, "judge": "math", "before_observation": "<"})");
  ASSERT_TRUE(good.ok()) << good.status();
  PromptRow row;
  row.verifier = "math";
  EXPECT_FALSE((*good)->Has(row));
  EXPECT_EQ((*good)->JudgeOf(row), "math");
  for (const char* named : {"world", "world@1"}) {
    row.verifier = named;
    EXPECT_TRUE((*good)->Has(row)) << named;
    EXPECT_EQ((*good)->JudgeOf(row), "math");
  }
  for (const auto& [episode, field] : {std::pair{R"({"max_turns": 0})", "params.episode.max_turns"},
                                       {R"({"turns": 2})", "params.episode.turns: unknown"},
                                       {R"({"judge": "nobody"})", "params.episode.judge"},
                                       {R"({"judge": "world"})", "params.episode.judge"},
                                       {R"({"after_observation": 3})", "after_observation"},
                                       {"[]", "verifiers.world: params.episode"}}) {
    const absl::Status status = make(episode).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << episode;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
}

}  // namespace
}  // namespace tramontane
