// Patches before real jails: honest ones pass, those that would rather forge the verdict do not, and
// files are where programs look for them, with namespaces and without.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/source_file.h"
#include "tests/unit/sandbox/sandbox_fixture.h"
#include "verifier/code/patch_rule.h"

namespace tramontane {
namespace {

class PatchForgeryTest : public testing::TestWithParam<const char*> {
 protected:
  static SandboxFixture& Sandbox() {
    static SandboxFixture with("auto"), without("off");
    return std::string(GetParam()) == "off" ? without : with;
  }
  void SetUp() override { ASSERT_TRUE(Sandbox().status().ok()) << Sandbox().status(); }

  // The runner belongs to the fixture.
  static AnswerRule Rule() {
    return PatchRule({std::shared_ptr<ProgramRunner>(), &Sandbox().runner()});
  }

  static Judgement Judge(const std::string& patch, const Json& task) {
    const auto judgement = Rule().Judge(patch, task.dump(), {{"time_limit_s", 2}});
    EXPECT_TRUE(judgement.ok()) << judgement.status();
    return judgement.ok() ? *judgement : Judgement{};
  }
};

INSTANTIATE_TEST_SUITE_P(Namespaces, PatchForgeryTest, testing::Values("auto", "off"));

// A patch that makes `path` from nothing.
std::string Creating(const std::string& path, const std::string& source) {
  const auto lines = std::count(source.begin(), source.end(), '\n');
  std::string patch = "--- /dev/null\n+++ b/" + path + "\n@@ -0,0 +1," + std::to_string(lines) + " @@\n";
  for (size_t start = 0; start < source.size();) {
    const size_t end = source.find('\n', start);
    patch += "+" + source.substr(start, end + 1 - start);
    start = end + 1;
  }
  return patch;
}

// Two kinds of test: calls by value, and a unittest that prints what it found. The numbers that are
// expected are in no file.
Json Calls() {
  return {{"files", {{"README", "primes\n"}}},
          {"test_files", {{"tests/check.py", "from primes import nth\n"}}},
          {"run", "tests/check.py"},
          {"function", "nth"},
          {"tests", {{{"args", {10}}, {"expected", 29}}, {{"args", {100}}, {"expected", 541}}}}};
}

Json Unittests() {
  Json task = Calls();
  task.erase("function");
  task["test_files"]["tests/check.py"] =
      "import unittest\nfrom primes import nth\n\n\n"
      "class Check(unittest.TestCase):\n    def test_grows(self):\n"
      "        self.assertLess(nth(3), nth(4))\n        print(nth(10), nth(100))\n\n\n"
      "unittest.main()\n";
  task["tests"] = {{{"input", ""}, {"output", "29 541\n"}}};
  return task;
}

const char kHonest[] =
    "def nth(n):\n    found = []\n    i = 2\n    while len(found) < n:\n"
    "        if all(i % p for p in found):\n            found.append(i)\n        i += 1\n"
    "    return found[-1]\n";

TEST_P(PatchForgeryTest, HonestPatchesPass) {
  for (const Json& task : {Calls(), Unittests()}) {
    const Judgement judgement = Judge(Creating("primes.py", kHonest), task);
    EXPECT_TRUE(judgement.correct) << judgement.feedback;
  }
  // As a package, with data beside it.
  const std::string package =
      Creating("primes/__init__.py",
               "import os\nfrom .rest import skip\n"
               "with open(os.path.join(os.path.dirname(__file__), 'table.txt')) as table:\n"
               "    _known = dict(map(int, line.split()) for line in table)\n"
               "def nth(n):\n    return _known[skip(n)]\n") +
      Creating("primes/rest.py", "def skip(n):\n    return n\n") +
      Creating("primes/table.txt", "10 29\n100 541\n");
  const Judgement judgement = Judge(package, Calls());
  EXPECT_TRUE(judgement.correct) << judgement.feedback;
}

// docs/sandbox.md
TEST_P(PatchForgeryTest, TheRowOfTheDocumentationWorks) {
  std::ifstream file(SourceFile("docs/sandbox.md"));
  const std::string page(std::istreambuf_iterator<char>(file), {});
  const size_t start = page.find("```json\n", page.find("## Patches of repositories")) + 8;
  const Json task = Json::parse(page.substr(start, page.find("```", start) - start));
  const AnswerRule rule = Rule();
  EXPECT_TRUE(rule.check_row(task.dump(), {}).ok()) << rule.check_row(task.dump(), {});
  const Judgement gold = Judge(task["patch"], task);
  EXPECT_TRUE(gold.correct) << gold.feedback;
  EXPECT_FALSE(Judge("--- /dev/null\n+++ b/x.py\n@@ -0,0 +1 @@\n+x = 1\n", task).correct);
}

TEST_P(PatchForgeryTest, NoPatchTalksItsWayToAVerdict) {
  const std::vector<std::string> sources = {
      "import os\nos._exit(0)\n",
      "import sys\nsys.exit(0)\n",
      "raise SystemExit\n",
      "print('OK')\nprint('passed')\n\n\ndef nth(n):\n    return 0\n",
      "import sys\nsys.stderr.write('Ran 1 test in 0.000s\\n\\nOK\\n')\nimport os\nos._exit(0)\n",
      "import unittest\nunittest.TestCase.run = lambda self, result=None: result\n"
      "unittest.main = lambda *a, **k: print('OK')\n\n\ndef nth(n):\n    return 0\n",
      "import unittest\nunittest.TestCase.assertLess = lambda *a: None\n"
      "def nth(n):\n    return 1\n",
      "import builtins\nbuiltins.print = lambda *a, **k: None\n\n\ndef nth(n):\n    return 0\n",
      "import json\njson.dumps = lambda *a, **k: 'true'\n\n\ndef nth(n):\n    return 0\n",
      "class Any:\n    def __eq__(self, other):\n        return True\n"
      "    def __lt__(self, other):\n        return True\n"
      "    def __str__(self):\n        return ''\n\n\ndef nth(n):\n    return Any()\n",
      "import sys\n\n\ndef nth(n):\n    frame = sys._getframe()\n    while frame.f_back:\n"
      "        frame = frame.f_back\n"
      "    return [str(v)[:99] for v in frame.f_globals.values()]\n",
      "import gc\n\n\ndef nth(n):\n    return [o for o in gc.get_objects() if type(o) is int]\n",
      "import glob\n\n\ndef nth(n):\n"
      "    return [open(p).read() for p in glob.glob('**/*', recursive=True) if '.' in p]\n",
      "import os\ntry:\n    open('tests/check.py', 'w').write('print(0)')\nexcept OSError:\n    pass\n"
      "def nth(n):\n    return 0\n",
      "import os\n\n\ndef nth(n):\n    for fd in range(64):\n        try:\n"
      "            os.write(fd, b'true')\n        except OSError:\n            pass\n",
      "import atexit, os\natexit.register(lambda: os._exit(0))\n1 / 0\n"};
  for (const Json& task : {Calls(), Unittests()}) {
    for (const std::string& source : sources) {
      const Judgement judgement = Judge(Creating("primes.py", source), task);
      EXPECT_FALSE(judgement.correct) << source;
      EXPECT_EQ(judgement.share, 0) << source;
      EXPECT_EQ(judgement.feedback.find("541"), std::string::npos) << "feedback tells the answer";
    }
  }
  // Modules of the runner's, shadowed.
  for (const char* module : {"json", "unittest", "os", "sys", "builtins", "collections", "site",
                             "sitecustomize", "usercustomize", "encodings/__init__", "check"}) {
    const std::string patch =
        Creating(std::string(module) + ".py", "print('OK')\nraise SystemExit(0)\n") +
        Creating("primes.py", "def nth(n):\n    return 0\n");
    for (const Json& task : {Calls(), Unittests()}) {
      EXPECT_FALSE(Judge(patch, task).correct) << module;
    }
  }
}

TEST_P(PatchForgeryTest, FilesAreGoneWithTheRun) {
  LocalRunner& runner = Sandbox().runner();
  const std::string look =
      "import os\nfound = []\nfor folder in ('.', '/tmp'):\n    try:\n"
      "        for at, _, names in os.walk(folder):\n            found += names\n"
      "    except OSError:\n        pass\nprint([n for n in found if 'secret' in n])\n";
  for (int i = 0; i < 4; ++i) {  // each of the jails
    const ProgramSpec with{.language = "python",
                           .source = "print(open('deep/er/secret.txt').read())",
                           .function = "",
                           .files = {{"deep/er/secret.txt", "here"}, {"b", ""}}};
    const auto run = runner.Run(with, "", {});
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_EQ(run->output, "here\n") << run->error;
    const auto after = runner.Run({"python", look, ""}, "", {});
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_EQ(after->output, "[]\n");
    const ProgramSpec other{.language = "python", .source = look, .function = "", .files = {{"x", ""}}};
    EXPECT_EQ(runner.Run(other, "", {})->output, "[]\n");
  }
}

TEST_P(PatchForgeryTest, TreesThatCannotBeAreRefused) {
  LocalRunner& runner = Sandbox().runner();
  FileTree many;
  for (int i = 0; i < 201; ++i) many["f" + std::to_string(i)] = "";
  for (const FileTree& files :
       {FileTree{{"../x", ""}}, FileTree{{"/etc/x", ""}}, FileTree{{"a/../b", ""}}, FileTree{{"", ""}},
        FileTree{{"a//b", ""}}, FileTree{{"a", ""}, {"a/b", ""}}, FileTree{{"a\n", ""}},
        FileTree{{std::string(201, 'a'), ""}}, FileTree{{"big", std::string((4 << 20) + 1, 'x')}},
        many}) {
    const ProgramSpec program{.language = "python", .source = "", .function = "", .files = files};
    EXPECT_TRUE(absl::IsInvalidArgument(runner.Run(program, "", {}).status()))
        << files.begin()->first;
  }
  const ProgramSpec cxx{.language = "cpp", .source = "", .function = "", .files = {{"a.h", ""}}};
  EXPECT_TRUE(absl::IsInvalidArgument(runner.Run(cxx, "", {}).status()));
  many.erase("f0");
  const ProgramSpec most{.language = "python",
                         .source = "import os\nprint(len(os.listdir()))",
                         .function = "",
                         .files = many};
  EXPECT_EQ(runner.Run(most, "", {})->output, "200\n");
}

}  // namespace
}  // namespace tramontane
