// Honest programs, wrong programs and wrong questions, with namespaces and without.
#include "verifier/sandbox/local_runner.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/sandbox/sandbox_fixture.h"

namespace tramontane {
namespace {

class LocalRunnerTest : public testing::TestWithParam<const char*> {
 protected:
  static SandboxFixture& Sandbox() {
    static SandboxFixture with("auto"), without("off");
    return std::string(GetParam()) == "off" ? without : with;
  }
  void SetUp() override { ASSERT_TRUE(Sandbox().status().ok()) << Sandbox().status(); }

  static ProgramRun Python(const std::string& source, const std::string& input = "",
                           RunLimits limits = {}) {
    return Sandbox().Run("python", source, input, limits);
  }
  static ProgramRun Cxx(const std::string& source, const std::string& input = "",
                        RunLimits limits = {}) {
    return Sandbox().Run("cpp", "#include <bits/stdc++.h>\nusing namespace std;\n" + source, input,
                         limits);
  }
};

INSTANTIATE_TEST_SUITE_P(Namespaces, LocalRunnerTest, testing::Values("auto", "off"));

TEST_P(LocalRunnerTest, PythonReadsItsInputAndPrints) {
  const ProgramRun run = Python(
      "import sys\nn = int(input())\nprint(n * 2)\n"
      "print(sys.stdin.read().split())\nif __name__ == '__main__': exit(3)",
      "21\na b\nc\n");
  EXPECT_EQ(run.end, RunEnd::kExited);
  EXPECT_EQ(run.code, 3);
  EXPECT_EQ(run.output, "42\n['a', 'b', 'c']\n") << run.error;
  EXPECT_GT(run.cpu_seconds, 0);
  EXPECT_GT(run.peak_memory_bytes, 1 << 20);
}

TEST_P(LocalRunnerTest, SaysWhatRunsThePrograms) {
  const auto description = Sandbox().runner().Describe();
  ASSERT_TRUE(description.ok());
  const ProgramRun run = Python("import sys\nprint(sys.version.split()[0])");
  ASSERT_EQ(description->runtimes.size(), 2u);
  EXPECT_EQ(description->runtimes[0] + "\n", "python " + run.output);
  EXPECT_TRUE(description->runtimes[1].starts_with("g++ ")) << description->runtimes[1];
}

TEST_P(LocalRunnerTest, TheStandardLibraryAndDeepRecursionInAThreadWork) {
  const ProgramRun run = Python(R"(
import collections, decimal, fractions, functools, heapq, itertools, json, math, random, re, sys
import threading
sys.setrecursionlimit(300000)
threading.stack_size(128 << 20)
def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)
thread = threading.Thread(target=lambda: print(depth(100000)))
thread.start()
thread.join()
print(fractions.Fraction(1, 3) + 1, decimal.Decimal('0.1') * 3, math.comb(10, 3))
)");
  EXPECT_EQ(run.output, "100000\n4/3 0.3 120\n") << run.error;
}

TEST_P(LocalRunnerTest, CxxCompilesAndRuns) {
  const ProgramRun run =
      Cxx("int main() { long long n; cin >> n; vector<int> v(n, 2);"
          "cout << accumulate(v.begin(), v.end(), 0LL) << '\\n'; return 7; }",
          "1000000\n");
  EXPECT_EQ(run.output, "2000000\n") << run.error;
  EXPECT_EQ(run.code, 7);
}

TEST_P(LocalRunnerTest, CxxFunctionsAreCalledWithValuesAndGiveOne) {
  const auto call = [](const std::string& source, const std::string& input) {
    const auto run = Sandbox().runner().Run({"cpp", source, "f"}, input, {});
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() && run->code == 0 ? run->output : "failed: " + (run.ok() ? run->error : "");
  };
  const std::string two_sum =
      "#define int long long\nclass Solution { public: vector<int> f(vector<int>& n, int target) {"
      " for (int i = 0; i < (int)n.size(); ++i) for (int j = 0; j < i; ++j)"
      " if (n[i] + n[j] == target) return {j, i}; return {}; } };\n"
      "signed main() { cout << Solution().f(*new vector<int>{1, 2}, 3)[0]; }";
  EXPECT_EQ(call(two_sum, "[[2, 7, 11, 15], 9]"), "[0,1]");
  EXPECT_EQ(call(two_sum, "[[4000000000, 5000000000], 9000000000]"), "[0,1]");
  const std::string everything =
      "map<string, vector<double>> f(const string& s, char c, bool b, const optional<int>& o,"
      " pair<int, string> p, set<int> t, unsigned long long u) {"
      " cout << \"noise\"; return {{s + c, {b ? .5 : 1, double(o.value_or(7)), p.first * 1.,"
      " double(t.size()), double(u)}}, {p.second, {}}}; }";
  EXPECT_EQ(call(everything, R"(["a\u00e9\"", "x", true, null, [3, "q\n"], [1, 1, 2], 9])"),
            "{\"a\u00e9\\\"x\":[0.5,7,3,2,9],\"q\\u000a\":[]}");
  EXPECT_EQ(call("void f(vector<vector<bool>> v) { v[0][0] = false; }", "[[[true]]]"), "null");
  EXPECT_TRUE(call("int f(int x) { return x; }", "[\"a\"]")
                  .starts_with("failed: the function takes other"));
  EXPECT_TRUE(call("int g(int x) { return x; }", "[1]").starts_with("failed: "));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Sandbox().runner().Run({"cpp", "int f() { return 1; }", "f); evil("}, "[]", {}).status()));
}

TEST_P(LocalRunnerTest, WhatDoesNotCompileIsTheProgramsFault) {
  const ProgramRun run = Cxx("int main() { return missing; }");
  EXPECT_EQ(run.end, RunEnd::kCompileError);
  EXPECT_NE(run.error.find("missing"), std::string::npos) << run.error;
}

TEST_P(LocalRunnerTest, CrashesAndUncaughtExceptionsAreSeen) {
  const ProgramRun crash = Cxx("int main() { volatile int* p = nullptr; return *p; }");
  EXPECT_EQ(crash.end, RunEnd::kSignalled);
  EXPECT_EQ(crash.code, SIGSEGV);
  const ProgramRun aborted = Cxx("int main() { abort(); }");
  EXPECT_EQ(aborted.end, RunEnd::kSignalled);
  EXPECT_EQ(aborted.code, SIGABRT);
  const ProgramRun raised = Python("print('before')\n1 / 0");
  EXPECT_EQ(raised.code, 1);
  EXPECT_EQ(raised.output, "before\n");
  EXPECT_NE(raised.error.find("ZeroDivisionError"), std::string::npos) << raised.error;
}

TEST_P(LocalRunnerTest, TimeIsLimitedByProcessorAndByWallClock) {
  const ProgramRun spins = Python("while True: pass", "", {.time_s = 0.3});
  EXPECT_EQ(spins.end, RunEnd::kTimeLimit);
  EXPECT_GE(spins.cpu_seconds, 0.3);
  const ProgramRun sleeps = Python("import time\ntime.sleep(60)", "", {.time_s = 0.1});
  EXPECT_EQ(sleeps.end, RunEnd::kTimeLimit);
  EXPECT_LT(sleeps.wall_seconds, 10);
}

TEST_P(LocalRunnerTest, MemoryAndOutputAreLimited) {
  const RunLimits small{.time_s = 4, .memory_bytes = 128 << 20, .output_bytes = 1000};
  const ProgramRun memory = Python(
      "try:\n  x = bytearray(300 << 20)\nexcept MemoryError:\n"
      "  print('refused')",
      "", small);
  EXPECT_EQ(memory.output, "refused\n") << memory.error;
  const ProgramRun output = Python("while True: print('x' * 100)", "", small);
  EXPECT_EQ(output.end, RunEnd::kOutputLimit);
  EXPECT_EQ(output.output.size(), 1000u);
}

TEST_P(LocalRunnerTest, FunctionsAreCalledAndWhatTheyPrintIsNoResult) {
  const std::string source =
      "class Solution:\n  def twoSum(self, nums: List[int], target: int):\n"
      "    print('looking', nums)\n"
      "    seen = defaultdict(int)\n    for i, x in enumerate(nums):\n"
      "      if target - x in seen: return (seen[target - x], i)\n"
      "      seen[x] = i\n";
  auto run = Sandbox().runner().Run({"python", source, "twoSum"}, "[[2, 7, 11], 9]", {});
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->output, "[0, 1]") << run->error;
  EXPECT_NE(run->error.find("looking"), std::string::npos);
  run = Sandbox().runner().Run({"python", "def f(n): return pow(n, 3, 7)", "f"}, "[5]", {});
  EXPECT_EQ(run->output, "6") << run->error;
  run = Sandbox().runner().Run({"python", "def f(n): return n", "gcd"}, "[4, 6]", {});
  EXPECT_EQ(run->code, 1) << "a name of the template is not the program's";
  EXPECT_EQ(run->output, "");
}

TEST_P(LocalRunnerTest, WrongQuestionsAreRefused) {
  LocalRunner& runner = Sandbox().runner();
  EXPECT_TRUE(absl::IsInvalidArgument(runner.Run({"perl", "", ""}, "", {}).status()));
  const ProgramSpec hello{"python", "print(1)", ""};
  EXPECT_TRUE(absl::IsInvalidArgument(runner.Run(hello, "", {.time_s = 1000}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(runner.Run(hello, "", {.memory_bytes = 1 << 20}).status()));
  const std::string huge(300 << 10, '#');
  EXPECT_TRUE(absl::IsInvalidArgument(runner.Run({"python", huge, ""}, "", {}).status()));
}

TEST_P(LocalRunnerTest, ManyAtOnceDoNotMixTheirAnswers) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 5; ++i) {
        const std::string number = std::to_string(100 * t + i);
        EXPECT_EQ(Python("print(input())", number).output, number + "\n");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(LocalRunnerTest, ADeadJailIsReplacedAndTheRunRepeated) {
  const std::vector<pid_t> before = Sandbox().runner().pool().pids();
  ASSERT_FALSE(before.empty());
  for (const pid_t pid : before) kill(pid, SIGKILL);
  EXPECT_EQ(Python("print(5)").output, "5\n");
  EXPECT_EQ(Python("print(6)").output, "6\n");
}

}  // namespace
}  // namespace tramontane
