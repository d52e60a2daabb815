#include "cli/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>

namespace tramontane {
namespace {

using Event = SupervisorEvent;
using Kind = SupervisorEvent::Kind;
using testing::HasSubstr;

constexpr char kListen[] = R"(echo '{"event":"listening","address":"127.0.0.1:1","metrics_address":"127.0.0.1:2"}';)";

class SupervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "supervisor_test_" + std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
    supervisor_ = std::make_unique<Supervisor>(folder_, clock_);
  }
  void TearDown() override {
    supervisor_.reset();
    std::filesystem::remove_all(folder_);
  }

  static ProcessSpec Shell(const std::string& name, const std::string& script,
                           RestartPolicy policy = {}) {
    return {.name = name, .kind = "dummy", .argv = {"sh", "-c", script}, .restart_argv = {},
            .restart = policy};
  }

  // Polls until an event fits; the events seen stay in seen_.
  bool Await(const std::function<bool(const Event&)>& fits, double timeout_s = 15) {
    const auto start = std::chrono::steady_clock::now();
    while (SecondsSince(start) < timeout_s) {
      bool found = false;
      for (Event& event : supervisor_->Poll(50)) {
        found |= fits(event);
        seen_.push_back(std::move(event));
      }
      if (found) return true;
    }
    return false;
  }
  bool Await(Kind kind) {
    return Await([kind](const Event& event) { return event.kind == kind; });
  }
  int Count(Kind kind) const {
    return static_cast<int>(std::count_if(seen_.begin(), seen_.end(),
                                          [kind](const Event& e) { return e.kind == kind; }));
  }

  SystemClock clock_;
  std::string folder_;
  std::unique_ptr<Supervisor> supervisor_;
  std::vector<Event> seen_;
};

TEST_F(SupervisorTest, TheListeningLineGivesTheAddresses) {
  ASSERT_TRUE(supervisor_->Start(Shell("a", std::string(kListen) + "sleep 60")).ok());
  ASSERT_TRUE(Await(Kind::kListening));
  const auto views = supervisor_->processes();
  EXPECT_EQ(views[0].address, "127.0.0.1:1");
  EXPECT_EQ(views[0].metrics_address, "127.0.0.1:2");
  EXPECT_GT(views[0].pid, 0);
}

TEST_F(SupervisorTest, JsonLinesAreParsedAndOthersPassAsText) {
  ASSERT_TRUE(supervisor_->Start(Shell("a", R"(echo '{"event":"step","step":3}'; echo plain; sleep 60)")).ok());
  ASSERT_TRUE(Await([](const Event& e) { return e.text == "plain"; }));
  ASSERT_EQ(seen_.size(), 2u);
  EXPECT_EQ(seen_[0].json["step"], 3);
  EXPECT_TRUE(seen_[1].json.is_null());
}

TEST_F(SupervisorTest, AKilledProcessIsStartedAgainWithItsRestartArguments) {
  ProcessSpec spec = Shell("a", std::string(kListen) + "sleep 60");
  spec.restart_argv = {"sh", "-c", "echo again; sleep 60"};
  ASSERT_TRUE(supervisor_->Start(spec).ok());
  ASSERT_TRUE(Await(Kind::kListening));
  ::kill(supervisor_->processes()[0].pid, SIGKILL);
  ASSERT_TRUE(Await([](const Event& e) { return e.text == "again"; }));
  EXPECT_EQ(Count(Kind::kDied), 1);
  EXPECT_EQ(Count(Kind::kRestarted), 1);
  EXPECT_EQ(supervisor_->total_restarts(), 1);
}

TEST_F(SupervisorTest, GivesUpOnAProcessThatKeepsDyingAndWaitsLongerEachTime) {
  const RestartPolicy policy{.max_in_a_row = 3, .first_backoff_s = 0.05, .max_backoff_s = 1};
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(supervisor_->Start(Shell("a", "echo reason why >&2; exit 1", policy)).ok());
  ASSERT_TRUE(Await(Kind::kGaveUp));
  EXPECT_EQ(Count(Kind::kRestarted), 3);
  EXPECT_GE(SecondsSince(start), 0.05 + 0.1 + 0.2);
  EXPECT_THAT(seen_.back().text, HasSubstr("exit status 1"));
  EXPECT_THAT(supervisor_->LastLines("a", 2), HasSubstr("reason why"));
  EXPECT_FALSE(supervisor_->AnyAlive("dummy"));
}

TEST_F(SupervisorTest, OnSignalPolicyLeavesAProcessThatEndedByItself) {
  const RestartPolicy policy{.when = RestartPolicy::When::kOnSignal, .first_backoff_s = 0.01};
  ASSERT_TRUE(supervisor_->Start(Shell("a", "exit 1", policy)).ok());
  ASSERT_TRUE(Await(Kind::kEnded));
  EXPECT_EQ(Count(Kind::kDied), 0);
  ASSERT_TRUE(supervisor_->Start(Shell("b", "kill -9 $$", policy)).ok());
  ASSERT_TRUE(Await(Kind::kRestarted));
}

TEST_F(SupervisorTest, OnSignalPolicyRestartsAProcessThatAsksForIt) {
  const RestartPolicy policy{.when = RestartPolicy::When::kOnSignal, .first_backoff_s = 0.01};
  ASSERT_TRUE(supervisor_->Start(Shell("a", "exit 75", policy)).ok());
  ASSERT_TRUE(Await(Kind::kRestarted));
}

TEST_F(SupervisorTest, StopEndsAProcessThatIgnoresSigtermAfterItsGrace) {
  ASSERT_TRUE(supervisor_->Start(Shell("deaf", std::string("trap '' TERM;") + kListen +
                                                   "while true; do sleep 0.1; done")).ok());
  ASSERT_TRUE(Await(Kind::kListening));
  supervisor_->Stop("deaf", 0.3);
  ASSERT_TRUE(Await(Kind::kEnded));
  EXPECT_EQ(Count(Kind::kDied), 0);
  EXPECT_TRUE(seen_.back().exit->by_signal);
}

TEST_F(SupervisorTest, StopWakesAStoppedProcess) {
  ASSERT_TRUE(supervisor_->Start(Shell("a", std::string(kListen) + "exec sleep 60")).ok());
  ASSERT_TRUE(Await(Kind::kListening));
  ::kill(supervisor_->processes()[0].pid, SIGSTOP);
  const auto start = std::chrono::steady_clock::now();
  supervisor_->Stop("a", 30);
  ASSERT_TRUE(Await(Kind::kEnded));
  EXPECT_LT(SecondsSince(start), 10);
}

TEST_F(SupervisorTest, LastWordsBeforeDeathAreNotLost) {
  const RestartPolicy never{.when = RestartPolicy::When::kNever};
  ASSERT_TRUE(supervisor_->Start(Shell("a", R"(echo '{"event":"finished"}')", never)).ok());
  ASSERT_TRUE(Await(Kind::kEnded));
  ASSERT_EQ(seen_.size(), 2u);
  EXPECT_EQ(seen_[0].json["event"], "finished");
  EXPECT_TRUE(seen_[1].exit->clean());
}

}  // namespace
}  // namespace tramontane
