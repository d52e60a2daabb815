#include "cli/verifier_launch.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>

#include "cli/local_port.h"

namespace tramontane {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(VerifierLaunchTest, ACommandGetsItsPortWhereverItStands) {
  VerifierSection section;
  section.command = {"serve", "--bind", "127.0.0.1:{port}", "--also={port},{port}"};
  const auto launch = PlanVerifier("mine", section, "/bin", "/run/config.json", true);
  ASSERT_TRUE(launch.ok()) << launch.status();
  const std::string port = launch->address.substr(launch->address.rfind(':') + 1);
  EXPECT_THAT(launch->argv,
              ElementsAre("serve", "--bind", "127.0.0.1:" + port, "--also=" + port + "," + port));
  EXPECT_FALSE(launch->ours);
}

TEST(VerifierLaunchTest, ABuiltInGraderIsToldItsAddressAndItsConfiguration) {
  VerifierSection section;
  section.builtin = "exact";
  const auto launch = PlanVerifier("words", section, "/opt/bin", "/run/config.json", false);
  ASSERT_TRUE(launch.ok()) << launch.status();
  EXPECT_TRUE(launch->ours);
  EXPECT_THAT(launch->argv,
              ElementsAre("/opt/bin/tramontane-verifier", "serve", "--name", "words", "--bind",
                          launch->address, "--config", "/run/config.json", "--metrics-bind", ""));
  EXPECT_THAT(PlanVerifier("words", section, "/opt/bin", "", false)->argv, Contains("exact"));
}

TEST(VerifierLaunchTest, OnlyItsOwnListeningLineCounts) {
  EXPECT_TRUE(SaysItListens(R"({"event":"listening","address":"127.0.0.1:5"})", "127.0.0.1:5"));
  EXPECT_FALSE(SaysItListens(R"({"event":"listening","address":"127.0.0.1:55"})", "127.0.0.1:5"));
  EXPECT_FALSE(SaysItListens(R"({"event":"failed","address":"127.0.0.1:5"})", "127.0.0.1:5"));
  EXPECT_FALSE(SaysItListens("127.0.0.1:5", "127.0.0.1:5"));
}

TEST(VerifierLaunchTest, AStrangerAtThePortIsNoVerifier) {
  const std::string nobody = "127.0.0.1:" + std::to_string(FreePort().value());
  EXPECT_TRUE(absl::IsUnavailable(ProbeVerifier(nobody, 5)));
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  const std::unique_ptr<grpc::Server> stranger = builder.BuildAndStart();
  ASSERT_NE(stranger, nullptr);
  const absl::Status probed = ProbeVerifier("127.0.0.1:" + std::to_string(port), 30);
  EXPECT_TRUE(absl::IsUnavailable(probed)) << probed;
  EXPECT_THAT(std::string(probed.message()), HasSubstr("no verifier answers"));
  stranger->Shutdown();
}

}  // namespace
}  // namespace tramontane
