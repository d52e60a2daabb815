// Programs that try to be judged right without being right, and a thousand that are right: the
// whole way from a completion to a verdict, with real jails.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/sandbox/sandbox_fixture.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

// Of a question nobody can guess: the expected output is not in the jail.
constexpr char kHidden[] = "8675309-hidden";

struct Borrowed final : ProgramRunner {
  explicit Borrowed(ProgramRunner& r) : runner(r) {}
  absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                 const RunLimits& limits) override {
    return runner.Run(program, input, limits);
  }
  absl::StatusOr<SandboxDescription> Describe() override { return runner.Describe(); }
  ProgramRunner& runner;
};

class ForgeryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(sandbox_.status().ok()) << sandbox_.status();
    grader_ =
        *MakeBuiltinGrader("code", RewardSection{},
                           {.sandbox = std::make_shared<Borrowed>(sandbox_.runner())});
  }

  Verdict Grade(const std::string& language, const std::string& source, const Json& gold,
                Json params = Json::object()) {
    params["time_limit_s"] = params.value("time_limit_s", 2.0);
    GradeRequest request;
    request.completion = "<think>hm</think>\n```" + language + "\n" + source + "\n```\n";
    request.answer = gold.dump();
    request.params = std::move(params);
    return grader_->Grade(request);
  }

  SandboxFixture sandbox_{"auto"};
  std::unique_ptr<Grader> grader_;
};

TEST_F(ForgeryTest, NoProgramTalksItsWayToAVerdict) {
  const Json gold = {{"tests", {{{"input", "q\n"}, {"output", std::string(kHidden) + "\n"}}}}};
  const std::vector<std::string> programs = {
      "",
      "import sys; sys.exit(0)",
      "import os; os._exit(0)",
      "raise SystemExit",
      "exit()",
      "quit()",
      "print('passed')",
      "print('1 passed, 0 failed')",
      "print('{\"passed\": true, \"score\": 1}')",
      "print('AssertionError' * 0, end='')",
      "print(input())",
      "import os; os.abort()",
      "import sys; sys.stderr.write('8675309')",
      "print('\\0' * 100)",
      "print('\\x1b[2J\\x1b[H')",
      "import os\nfor fd in range(64):\n  try: os.write(fd, b'{\"end\": 0, \"code\": 0}\\n')\n"
      "  except OSError: pass",
      "import sys\nsys.stdout.close(); sys.stdin.close(); sys.stderr.close()",
      "import gc\nprint([o for o in gc.get_objects() if 'hidden' in str(type(o))])",
      "import sys\nf = sys._getframe()\nwhile f:\n  print(f.f_locals.get('expected')); f = "
      "f.f_back",
      "import os\nfor fd in range(3, 64):\n  try: print(os.read(fd, 4096))\n  except OSError: pass",
      "import glob\nprint(glob.glob('/**/*hidden*', recursive=False), glob.glob('/tmp/*'))",
      "import builtins\nbuiltins.print = lambda *a: None\nclass A:\n  def __eq__(s, o): return "
      "True\n"
      "A()",
      "import os; os.execv('/bin/true', ['true'])",
      "import atexit, os; atexit.register(lambda: os._exit(0)); 1 / 0",
      "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"};
  for (const std::string& program : programs) {
    const Verdict verdict = Grade("python", program, gold);
    ASSERT_EQ(verdict.status, VerdictStatus::kScored) << program << verdict.feedback;
    EXPECT_FALSE(verdict.correct) << program;
    EXPECT_EQ(verdict.components.at("accuracy"), 0) << program;
    EXPECT_EQ(verdict.feedback.find(kHidden), std::string::npos) << "feedback tells the answer";
  }
  for (const std::string& body :
       {std::string("return 0;"), std::string("exit(0);"), std::string("_exit(0);"),
        std::string("for (int f = 0; f < 64; ++f) dprintf(f, \"OK\\n\");"),
        std::string("puts(\"Accepted\"); quick_exit(0);")}) {
    const Verdict verdict = Grade(
        "cpp", "#include <bits/stdc++.h>\n#include <unistd.h>\nint main() { " + body + " }", gold);
    ASSERT_EQ(verdict.status, VerdictStatus::kScored) << body << verdict.feedback;
    EXPECT_FALSE(verdict.correct) << body;
  }
}

TEST_F(ForgeryTest, NoFunctionTalksItsWayToAVerdict) {
  const Json gold = {{"function", "f"}, {"tests", {{{"args", {1}}, {"expected", kHidden}}}}};
  const std::vector<std::string> programs = {
      "class A:\n  def __eq__(s, o): return True\n  def __ne__(s, o): return False\ndef f(x): "
      "return A()",
      "class A(str):\n  def __eq__(s, o): return True\n  __hash__ = str.__hash__\ndef f(x): return "
      "A('x')",
      "class A(dict):\n  def __eq__(s, o): return True\ndef f(x): return A()",
      "import json\njson.dumps = lambda *a, **k: 'true'\ndef f(x): return 1",
      "import os\ndef f(x): os.write(1, b'true'); os._exit(0)",
      "import sys\nsys.exit(0)",
      "import os\nos._exit(0)",
      "def f(x): raise SystemExit(0)",
      "import sys\ndef f(x):\n  g = sys._getframe()\n  while g.f_back: g = g.f_back\n"
      "  return [str(v) for v in g.f_globals.values()] + [str(v) for v in g.f_locals.values()]",
      "def f(x): return True",
      "def f(x): return None",
      "def f(x): print('passed')",
      "import builtins\nbuiltins.getattr = lambda *a: (lambda *b: True)\nclass Solution: pass",
      "import os\ndef f(x):\n  for fd in range(64):\n    try: os.write(fd, b'null')\n"
      "    except OSError: pass",
      "def f(x): return float('nan')",
      "def f(x): return '8675309'",
      "f = 1",
      "",
      "import gc\ndef f(x): return [str(o)[:99] for o in gc.get_objects()][:999]"};
  for (const std::string& program : programs) {
    const Verdict verdict = Grade("python", program, gold);
    ASSERT_EQ(verdict.status, VerdictStatus::kScored) << program << verdict.feedback;
    EXPECT_FALSE(verdict.correct) << program;
    EXPECT_EQ(verdict.components.at("accuracy"), 0) << program;
  }
}

// The i-th of any number of honest programs, right by construction.
struct Honest {
  std::string language, source;
  Json gold;
};

Honest HonestProgram(int i) {
  const int n = 3 + i * 7 % 97;
  const auto test = [](const std::string& input, const std::string& output) {
    return Json{{"tests", {{{"input", input}, {"output", output}}}}};
  };
  const std::string number = std::to_string(n);
  const long sum = static_cast<long>(n) * (n + 1) / 2;
  switch (i % 10) {
    case 0:
      return {"python", "n = int(input())\nprint(n * (n + 1) // 2)",
              test(number, std::to_string(sum))};
    case 1:
      return {"python", "import sys\nprint(*sorted(map(int, sys.stdin.read().split())))",
              test(number + " 2 1", "1 2 " + number)};
    case 2:
      return {"python", "print(input()[::-1])",
              test("ab" + number, std::string(number.rbegin(), number.rend()) + "ba")};
    case 3:
      return {"python",
              "def f(n): return [n, {'sum': sum(range(n + 1))}]",
              {{"function", "f"}, {"tests", {{{"args", {n}}, {"expected", {n, {{"sum", sum}}}}}}}}};
    case 4:
      return {
          "python",
          "class Solution:\n  def gcd(self, a: int, b: int) -> int:\n    import math\n"
          "    return math.gcd(a, b)",
          {{"function", "gcd"}, {"tests", {{{"args", {n, 12}}, {"expected", std::gcd(n, 12)}}}}}};
    case 5:
      return {"python",
              "import threading\ndef main():\n  print(sum(int(x) for x in open(0)))\n"
              "t = threading.Thread(target=main); t.start(); t.join()",
              test("1\n" + number + "\n", std::to_string(n + 1))};
    case 6:
      return {"python",
              "from collections import deque\nq = deque(range(int(input())))\nwhile len(q) > 1: "
              "q.popleft()\nprint(q[0])",
              test(number, std::to_string(n - 1))};
    case 7:
      return {"python", "import sys\nfor line in sys.stdin: print(len(line.strip()), flush=True)",
              test(std::string(static_cast<size_t>(n), 'x') + "\n\n", number + "\n0\n")};
    case 8:
      return {"python", "print('x' * 100000 + input())",
              test(number, std::string(100000, 'x') + number)};
    default:
      return {
          "cpp",
          "#include <bits/stdc++.h>\nusing namespace std;\nint main() { long n, s = 0; cin >> n; "
          "for (long i = 1; i <= n; ++i) s += i; cout << s << endl; }",
          test(number, std::to_string(sum))};
  }
}

void GradeHonest(int count, const std::function<Verdict(const Honest&)>& grade) {
  for (int i = 0; i < count; ++i) {
    const Honest honest = HonestProgram(i);
    const Verdict verdict = grade(honest);
    ASSERT_EQ(verdict.status, VerdictStatus::kScored) << i << ": " << verdict.feedback;
    EXPECT_TRUE(verdict.correct) << i << ": " << verdict.feedback << "\n" << honest.source;
  }
}

TEST_F(ForgeryTest, HonestProgramsAreRight) {
  GradeHonest(50, [this](const Honest& h) { return Grade(h.language, h.source, h.gold); });
}

// Run by the ctest label `long`.
TEST_F(ForgeryTest, DISABLED_AThousandHonestProgramsAreRight) {
  GradeHonest(1000, [this](const Honest& h) { return Grade(h.language, h.source, h.gold); });
}

}  // namespace
}  // namespace tramontane
