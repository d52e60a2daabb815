// Hostile programs against real jails: whatever they try, nothing outside changes, nothing of them
// stays, and honest programs after them are as right as before.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/sandbox/attacks.h"
#include "tests/unit/sandbox/canaries.h"
#include "tests/unit/sandbox/sandbox_fixture.h"

namespace tramontane {
namespace {

constexpr auto kNone = absl::string_view::npos;
constexpr size_t kSampleEvery = 12;  // of the default run
const RunLimits kLimits{
    .time_s = 0.25, .memory_bytes = int64_t{256} << 20, .output_bytes = 1 << 20};

class AttackTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(sandbox_.status().ok()) << sandbox_.status();
    targets_ = canaries_.targets();
    for (const auto& family :
         {PythonAttacks(targets_), SystemCallAttacks(targets_), CxxAttacks(targets_)}) {
      attacks_.insert(attacks_.end(), family.begin(), family.end());
    }
  }

  void Try(const Attack& attack) {
    SCOPED_TRACE(attack.name);
    auto run = sandbox_.runner().Run({attack.language, attack.source, ""}, "", kLimits);
    // A machine under load may keep a program from running at all: said, and not held against it.
    for (int again = 0; again < 20 && run.status().message().find("too busy") != kNone; ++again) {
      run = sandbox_.runner().Run({attack.language, attack.source, ""}, "", kLimits);
    }
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_EQ(run->output.find(kTrespass), std::string::npos) << run->output.substr(0, 300);
    EXPECT_EQ(run->output.find(targets_.secret), std::string::npos);
    EXPECT_EQ(run->error.find(targets_.secret), std::string::npos);
    EXPECT_LE(run->output.size(), static_cast<size_t>(kLimits.output_bytes));
    if (run->end != RunEnd::kCompileError) {  // whose bounds are the compiler's
      EXPECT_LT(run->wall_seconds, 2 * kLimits.time_s + 1 + 2) << "the deadline";
      EXPECT_LT(run->peak_memory_bytes, kLimits.memory_bytes + (64 << 20));
    }
    if (attack.must_die_by_signal) {
      EXPECT_NE(run->end, RunEnd::kExited) << run->code;
    }
    EXPECT_EQ(canaries_.Touched(), "");
    for (const pid_t jail : sandbox_.runner().pool().pids()) {
      EXPECT_EQ(Descendants(jail), 0) << "a survivor under " << jail;
    }
  }

  void StillHonest() {
    const ProgramRun run =
        sandbox_.Run("python", "print(sum(map(int, input().split())))", "19 23\n");
    EXPECT_EQ(run.output, "42\n") << run.error;
  }

  SandboxFixture sandbox_{GetParam(), 1};
  Canaries canaries_;
  Targets targets_;
  std::vector<Attack> attacks_;
};

INSTANTIATE_TEST_SUITE_P(Namespaces, AttackTest, testing::Values("auto", "off"));

TEST_P(AttackTest, ThereAreThreeHundredOfThem) { EXPECT_GE(attacks_.size(), 300u); }

TEST_P(AttackTest, ASampleOfThemHasNoEffect) {
  // The two suites take different ones.
  for (size_t i = std::string(GetParam()) == "off" ? 6 : 0; i < attacks_.size();
       i += kSampleEvery) {
    Try(attacks_[i]);
  }
  StillHonest();
}

// Minutes; run by the ctest label `long`.
TEST_P(AttackTest, DISABLED_NoneHasAnEffect) {
  for (size_t i = 0; i < attacks_.size(); ++i) {
    Try(attacks_[i]);
    if (i % 20 == 0) StillHonest();
  }
  StillHonest();
}

struct Leak {
  std::string name, leave, find;
};

// What one program leaves, the next must not find: both run in the same jail.
TEST_P(AttackTest, NothingPassesFromOneRunToTheNext) {
  const std::vector<Leak> leaks = {
      {"scratch", "open('note', 'w').write('x')", "open('note').read(); print('TRESPASS')"},
      {"tmp", "open('/tmp/note', 'w').write('x')", "open('/tmp/note').read(); print('TRESPASS')"},
      {"shm", "open('/dev/shm/note', 'w').write('x')", "open('/dev/shm/note'); print('TRESPASS')"},
      {"bytecode", "import os; os.mkdir('/usr/lib/python3/trespass')",
       "import os; os.stat('/usr/lib/python3/trespass'); print('TRESPASS')"},
      {"sysv", "import ctypes; ctypes.CDLL(None).shmget(0x7e5, 4096, 0o1666)",
       "import ctypes; print('TRESPASS' if ctypes.CDLL(None).shmget(0x7e5, 0, 0) >= 0 else 'ok')"},
      {"queue", "import ctypes; ctypes.CDLL(None).syscall(240, b'note', 0o102, 0o600, 0)",
       "import ctypes; print('TRESPASS' if ctypes.CDLL(None).syscall(240, b'note', 0) >= 0 else "
       "'')"},
      {"limits", "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))",
       "import resource; print('TRESPASS' if resource.getrlimit(7)[1] == 8 else 'ok')"},
      {"mask", "import os; os.umask(0)",
       "import os; print('TRESPASS' if os.umask(0) == 0 else '')"},
      {"thread",
       "import threading, time; threading.Thread(target=time.sleep, args=(9,), "
       "daemon=True).start()",
       "import threading; print('TRESPASS' if threading.active_count() > 1 else 'ok')"}};
  for (const Leak& leak : leaks) {
    SCOPED_TRACE(leak.name);
    for (const std::string& source : {leak.leave, leak.find}) {
      const auto run = sandbox_.runner().Run({"python", source, ""}, "", kLimits);
      ASSERT_TRUE(run.ok()) << run.status();
      EXPECT_EQ(run->output.find(kTrespass), std::string::npos) << run->output;
    }
  }
  EXPECT_EQ(canaries_.Touched(), "");
}

}  // namespace
}  // namespace tramontane
