// The sandbox as a service: the same answers over the wire, and errors that say whose they are.
#include "services/sandbox/service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "services/sandbox/client.h"
#include "services/sandbox/open_runner.h"

namespace tramontane {
namespace {

// Runs nothing; answers with what it was asked.
class EchoRunner final : public ProgramRunner {
 public:
  absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                 const RunLimits& limits) override {
    if (program.source == "bad") return absl::InvalidArgumentError("language 'x' is not offered");
    if (program.source == "broken") return absl::UnavailableError("the jail is gone");
    if (program.source == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ProgramRun run;
    run.end = RunEnd::kSignalled;
    run.code = 11;
    run.output =
        program.language + "|" + program.source + "|" + program.function + "|" + std::string(input);
    for (const auto& [path, content] : program.files) run.output += "|" + path + "=" + content;
    run.error = std::string("\xff\0", 2);
    run.cpu_seconds = limits.time_s;
    run.wall_seconds = 2;
    run.peak_memory_bytes = limits.memory_bytes + limits.output_bytes;
    return run;
  }
  absl::StatusOr<SandboxDescription> Describe() override {
    return SandboxDescription{.tier = "B",
                              .runtime_class = "",
                              .layers = {"seccomp", "landlock:7"},
                              .missing = {"pid_namespace (no)"},
                              .languages = {"python"},
                              .runtimes = {"python 3"},
                              .programs = 2,
                              .most = {.time_s = 9},
                              .takes_files = true};
  }
};

class SandboxServiceTest : public testing::Test {
 protected:
  void Start(size_t max_waiting) {
    service_ = std::make_unique<SandboxService>(runner_, *runner_.Describe(), max_waiting);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  void TearDown() override {
    if (service_) service_->Drain();
    if (server_) server_->Shutdown();
  }

  EchoRunner runner_;
  std::unique_ptr<SandboxService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(SandboxServiceTest, AnswersAreTheRunnersByteForByte) {
  Start(8);
  SandboxClient client(address_);
  const std::string bytes("\0\xfe input", 8);
  const auto run = client.Run({"python", "source \xff", "f", {{"a/b", "\xfe"}, {"c", ""}}}, bytes,
                              {.time_s = 1.5, .memory_bytes = 100, .output_bytes = 11});
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->end, RunEnd::kSignalled);
  EXPECT_EQ(run->code, 11);
  EXPECT_EQ(run->output, "python|source \xff|f|" + bytes + "|a/b=\xfe|c=");
  EXPECT_EQ(run->error, std::string("\xff\0", 2));
  EXPECT_EQ(run->cpu_seconds, 1.5);
  EXPECT_EQ(run->peak_memory_bytes, 111);

  const auto description = client.Describe();
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(description->tier, "B");
  EXPECT_EQ(description->layers, (std::vector<std::string>{"seccomp", "landlock:7"}));
  EXPECT_EQ(description->missing, (std::vector<std::string>{"pid_namespace (no)"}));
  EXPECT_EQ(description->most.time_s, 9);
  EXPECT_TRUE(description->takes_files);
}

TEST_F(SandboxServiceTest, ErrorsSayWhoseTheyAre) {
  Start(8);
  SandboxClient client(address_);
  EXPECT_TRUE(absl::IsInvalidArgument(client.Run({"x", "bad", ""}, "", {}).status()));
  EXPECT_TRUE(absl::IsUnavailable(client.Run({"x", "broken", ""}, "", {}).status()));
  SandboxClient nobody("127.0.0.1:1");
  const absl::Status away = nobody.Run({"python", "x", ""}, "", {}).status();
  EXPECT_TRUE(absl::IsUnavailable(away)) << away;
  EXPECT_NE(std::string(away.message()).find("127.0.0.1:1"), std::string::npos) << away;
}

TEST_F(SandboxServiceTest, AFullServiceIsAskedAgain) {
  Start(1);
  SandboxClient client(address_);
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&client] {
      const auto run = client.Run({"python", "slow", ""}, "", {});
      EXPECT_TRUE(run.ok()) << run.status();
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST_F(SandboxServiceTest, TheConfigurationsDemandsHoldForAServiceToo) {
  Start(8);
  MetricsRegistry metrics;
  SandboxSection section;
  section.address = address_;
  EXPECT_TRUE(OpenRunner(section, metrics).ok());
  EXPECT_NE(metrics.Render().find("tramontane_sandbox_info{"), std::string::npos);
  section.required_layers = {"landlock"};
  EXPECT_TRUE(OpenRunner(section, metrics).ok());
  section.required_layers = {"pid_namespace"};
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenRunner(section, metrics).status()));
  section.required_layers.clear();
  section.required_tier = "A";
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenRunner(section, metrics).status()));
}

}  // namespace
}  // namespace tramontane
