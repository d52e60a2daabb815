#include "cli/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/clock.h"
#include "common/files.h"

namespace tramontane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ChildProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "child_process_test_" + std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
    log_ = folder_ + "/child.log";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  ChildProcess Shell(const std::string& script) {
    auto child = ChildProcess::Start({"sh", "-c", script}, log_);
    EXPECT_TRUE(child.ok()) << child.status();
    return *std::move(child);
  }

  std::string folder_, log_;
};

std::optional<ExitStatus> WaitForExit(ChildProcess& child, double timeout_s = 10) {
  const auto start = std::chrono::steady_clock::now();
  while (SecondsSince(start) < timeout_s) {
    pollfd fd{child.pid_fd(), POLLIN, 0};
    ::poll(&fd, 1, 50);
    if (auto exit = child.Poll()) return exit;
  }
  return std::nullopt;
}

TEST_F(ChildProcessTest, ExitCodesAndSignalsAreToldApart) {
  ChildProcess seven = Shell("exit 7");
  const auto exit = WaitForExit(seven);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->ToString(), "exit status 7");
  EXPECT_FALSE(exit->clean());

  ChildProcess killed = Shell("kill -9 $$");
  const auto signal = WaitForExit(killed);
  ASSERT_TRUE(signal);
  EXPECT_EQ(signal->ToString(), "signal 9 (Killed)");
}

TEST_F(ChildProcessTest, AMissingProgramIsNotFoundAndNamed) {
  const auto child = ChildProcess::Start({"/nowhere/tramontane-nothing"}, log_);
  EXPECT_TRUE(absl::IsNotFound(child.status())) << child.status();
  EXPECT_THAT(std::string(child.status().message()), HasSubstr("/nowhere/tramontane-nothing"));
}

TEST_F(ChildProcessTest, LinesComeWholeAndTheLastOneWithoutNewlineToo) {
  ChildProcess child = Shell("printf 'one\\ntw'; sleep 0.1; printf 'o\\nthree'");
  ASSERT_TRUE(WaitForExit(child));
  EXPECT_THAT(child.ReadLines(), ElementsAre("one", "two", "three"));
  EXPECT_EQ(child.output_fd(), -1);
}

TEST_F(ChildProcessTest, StandardErrorAndOutputBothReachTheLog) {
  ChildProcess child = Shell("echo to-out; echo to-err >&2");
  ASSERT_TRUE(WaitForExit(child));
  child.ReadLines();
  const auto log = ReadFile(log_);
  ASSERT_TRUE(log.ok());
  EXPECT_THAT(*log, HasSubstr("to-out\n"));
  EXPECT_THAT(*log, HasSubstr("to-err\n"));
}

TEST_F(ChildProcessTest, DestructionKillsTheWholeGroup) {
  pid_t grandchild = 0;
  {
    ChildProcess child = Shell("sleep 60 & echo $!; wait");
    std::vector<std::string> lines;
    while (lines.empty()) {
      pollfd fd{child.output_fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&fd, 1, 10'000), 1);
      lines = child.ReadLines();
    }
    grandchild = std::stoi(lines[0]);
    ASSERT_EQ(::kill(grandchild, 0), 0);
  }
  // The grandchild is init's now and may stay a zombie for a moment: look at its state.
  bool gone = false;
  for (int i = 0; i < 100 && !gone; ++i) {
    std::ifstream file("/proc/" + std::to_string(grandchild) + "/stat");
    std::string stat;
    gone = !std::getline(file, stat) || stat.find(") Z ") != std::string::npos;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(gone);
}

TEST_F(ChildProcessTest, RunToEndCollectsOutputAndEndsProgramsThatDoNot) {
  const auto run = RunToEnd({"sh", "-c", "echo a; echo b; exit 3"}, log_, 10);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->output, "a\nb\n");
  EXPECT_EQ(run->exit.code, 3);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(RunToEnd({"sleep", "60"}, log_, 0.3).status()));
  EXPECT_LT(SecondsSince(start), 10);
}

}  // namespace
}  // namespace tramontane
