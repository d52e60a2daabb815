// The patch rule over a scripted sandbox: what is refused, what is run among which files, and what
// it is worth.
#include "verifier/code/patch_rule.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "verifier/grader.h"

namespace tramontane {
namespace {

// Adds, provided that calc.py does; remembers what it was asked.
class RepositoryRunner final : public ProgramRunner {
 public:
  RepositoryRunner() { description.takes_files = true; }
  absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                 const RunLimits&) override {
    if (!fault.ok()) return fault;
    programs.push_back(program);
    const Json arguments = Json::parse(input);
    const int a = arguments[0], b = arguments[1];
    const bool adds = program.files.at("calc.py").find("a + b") != std::string::npos;
    ProgramRun run;
    run.output = std::to_string(adds ? a + b : a - b);
    return run;
  }
  absl::StatusOr<SandboxDescription> Describe() override { return description; }

  absl::Status fault;
  SandboxDescription description;
  std::vector<ProgramSpec> programs;
};

const char kGoldPatch[] =
    "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n"
    "+    return a + b\n";

Json Task() {
  return {{"files", {{"calc.py", "def add(a, b):\n    return a - b\n"}}},
          {"test_files", {{"tests/check.py", "from calc import add\n"}}},
          {"run", "tests/check.py"},
          {"function", "add"},
          {"tests", {{{"args", {2, 3}}, {"expected", 5}}, {{"args", {2, 0}}, {"expected", 2}}}},
          {"patch", kGoldPatch}};
}

// `to` in the place of the gold patch's right line.
std::string PatchTo(const std::string& to) {
  return "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+" + to +
         "\n";
}

class PatchRuleTest : public testing::Test {
 protected:
  Judgement Judge(const std::string& text, const Json& task = Task(),
                  const Json& params = Json::object()) {
    const auto judgement = rule_.Judge(text, task.dump(), params);
    EXPECT_TRUE(judgement.ok()) << judgement.status();
    return judgement.ok() ? *judgement : Judgement{};
  }

  const std::shared_ptr<RepositoryRunner> runner_ = std::make_shared<RepositoryRunner>();
  const AnswerRule rule_ = PatchRule(runner_);
};

TEST_F(PatchRuleTest, ARightPatchIsRunAmongItsFilesAndTheTests) {
  const Judgement right = Judge("Fixed:\n```diff\n" + std::string(kGoldPatch) + "```\nDone.");
  EXPECT_TRUE(right.correct) << right.feedback;
  EXPECT_EQ(right.share, 1);
  EXPECT_EQ(right.extracted, "calc.py");
  EXPECT_EQ(right.feedback, "passes 2 of 2 tests");
  ASSERT_EQ(runner_->programs.size(), 2u);
  EXPECT_EQ(runner_->programs[0].language, "python");
  EXPECT_EQ(runner_->programs[0].source, "from calc import add\n");
  EXPECT_EQ(runner_->programs[0].function, "add");
  EXPECT_EQ(runner_->programs[0].files, (FileTree{{"calc.py", "def add(a, b):\n    return a + b\n"},
                                                  {"tests/check.py", "from calc import add\n"}}));
  EXPECT_TRUE(Judge("It is this.\n" + std::string(kGoldPatch)).correct) << "without a fence";
}

// CWM: s - 1 when the tests pass, threshold * s - 1 for similarity from the threshold on, else -1.
TEST_F(PatchRuleTest, SharesMakeCwmsReward) {
  const std::string similar = PatchTo("    return b - a");
  EXPECT_EQ(Judge(similar).share, 0.5);
  EXPECT_EQ(Judge(similar, Task(), {{"similarity_threshold", 0.9}}).share, 0.9);
  EXPECT_EQ(Judge(similar, Task(), {{"similarity_threshold", 0.99}}).share, 0);
  EXPECT_FALSE(Judge(similar).correct);
  EXPECT_NE(Judge(similar).feedback.find("similarity to the gold patch 0.9"), std::string::npos)
      << Judge(similar).feedback;
  Json blind = Task();
  blind.erase("patch");
  EXPECT_EQ(Judge(similar, blind).share, 0) << "nothing to be similar to";
  EXPECT_EQ(Judge(PatchTo("    return a - b  # " + std::string(500, 'x'))).share, 0);
  const auto share = [&](double threshold) {
    const Json params = {{"scoring", "fraction"}, {"similarity_threshold", threshold}};
    return Judge(similar, Task(), params).share;
  };
  EXPECT_EQ(share(0.9), 0.9);
  EXPECT_EQ(share(0.2), 0.5) << "one of two tests is more";

  RewardSection reward;
  reward.gate = false;
  reward.require_think = false;
  reward.terms = {{"accuracy", {{"right", 1}, {"wrong", -1}}}};
  const auto grader = MakeBuiltinGrader("patch", reward, {.sandbox = runner_});
  ASSERT_TRUE(grader.ok()) << grader.status();
  const auto score = [&](const std::string& completion, double threshold) {
    GradeRequest request;
    request.completion = completion;
    request.answer = Task().dump();
    request.params = {{"similarity_threshold", threshold}};
    return (*grader)->Grade(request).score;
  };
  EXPECT_EQ(score(kGoldPatch, 0.5), 1);
  EXPECT_EQ(score(similar, 0.75), 0.5);
  EXPECT_EQ(score("no idea", 0.5), -1);
  EXPECT_EQ(score("--- a/calc.py\nnonsense", 0.5), -1);
}

TEST_F(PatchRuleTest, PatchesThatCannotBeTakenAreWorthNothingAndSayWhy) {
  Json task = Task();
  task["patch"] = nullptr;
  const std::string change = "@@ -1 +1 @@\n-from calc import add\n+add = print\n";
  for (const auto& [patch, word] : std::vector<std::pair<std::string, std::string>>{
           {"I cannot do it.", "no unified diff"},
           {"```diff\nnothing\n```", "malformed patch: line 1"},
           {"--- a/tests/check.py\n+++ b/tests/check.py\n" + change, "changes a test: tests/check.py"},
           {"--- a/tests/check.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-from calc import add\n",
            "changes a test"},
           {"--- /dev/null\n+++ b/../../etc/passwd\n@@ -0,0 +1 @@\n+x\n", "leaves the repository"},
           {"--- /dev/null\n+++ b//etc/passwd\n@@ -0,0 +1 @@\n+x\n", "leaves the repository"},
           {"--- /dev/null\n+++ /etc/passwd\n@@ -0,0 +1 @@\n+x\n", "leaves the repository"},
           {"--- /dev/null\n+++ b/x/./y\n@@ -0,0 +1 @@\n+x\n", "leaves the repository"},
           {"--- /dev/null\n+++ b/x\\y\n@@ -0,0 +1 @@\n+x\n", "leaves the repository"},
           {"--- /dev/null\n+++ b/tests\n@@ -0,0 +1 @@\n+x\n", "does not apply: file 'tests'"},
           {"--- /dev/null\n+++ b/calc.py\n@@ -0,0 +1 @@\n+x\n", "is there already"},
           {"--- a/calc.py\n+++ b/calc.py\n@@ -7 +7 @@\n-x\n+y\n", "hunk 1 does not apply at line 7"},
           {std::string("diff --git a/calc.py b/c.py\nrename from calc.py\nrename to c.py\n"),
            "malformed patch: line 2"}}) {
    const Judgement judgement = Judge(patch, task);
    EXPECT_FALSE(judgement.correct) << patch;
    EXPECT_EQ(judgement.share, 0) << patch;
    EXPECT_NE(judgement.feedback.find(word), std::string::npos) << judgement.feedback;
  }
  EXPECT_TRUE(runner_->programs.empty()) << "nothing of it was run";
  // However similar: a change of the tests is no attempt.
  const std::string both =
      kGoldPatch + std::string("--- a/tests/check.py\n+++ b/tests/check.py\n") + change;
  EXPECT_EQ(Judge(both).share, 0);
  // A patch that does not apply may be similar, as a failing one.
  std::string shifted = kGoldPatch;
  shifted.replace(shifted.find("-1,2 +1,2"), 9, "-2,2 +2,2");
  EXPECT_EQ(Judge(shifted).share, 0.5);
}

TEST_F(PatchRuleTest, RowsAreChecked) {
  const auto check = [this](const Json& task, const Json& params = Json::object()) {
    return rule_.check_row(task.dump(), params);
  };
  EXPECT_TRUE(check(Task()).ok()) << check(Task());
  Json task;
  for (const auto& [pointer, value, word] : std::vector<std::tuple<std::string, Json, std::string>>{
           {"/files", Json::object(), "files"},
           {"/files", {{"../x", ""}}, "files"},
           {"/files", {{"x", 3}}, "must be a string"},
           {"/files", {{"x", ""}, {"x/y", ""}}, "is a folder"},
           {"/files", {{"tests", ""}}, "test_files"},
           {"/files", {{"x", std::string(5 << 20, 'x')}}, "4 MiB"},
           {"/test_files", nullptr, "test_files"},
           {"/run", "calc.py", "run: must name one of test_files"},
           {"/run", 3, "run"},
           {"/tests", Json::array(), "tests"},
           {"/patch", "nonsense", "patch: line 1"},
           {"/patch", 3, "patch"},
           {"/patch", "--- a/calc.py\n+++ b/calc.py\n@@ -1 +1 @@\n-x\n+y\n", "does not apply"},
           {"/patch", "--- a/tests/check.py\n+++ b/tests/check.py\n@@ -1 +1 @@\n-x\n+y\n",
            "changes a test"}}) {
    task = Task();
    task[Json::json_pointer(pointer)] = value;
    const absl::Status status = check(task);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << pointer << value.dump().substr(0, 99);
    EXPECT_NE(std::string(status.message()).find(word), std::string::npos) << status;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(rule_.check_row("[]", {})));
  for (const Json& params : {Json{{"language", "cpp"}}, Json{{"similarity_threshold", 0}},
                             Json{{"similarity_threshold", 1.5}}, Json{{"time_limit_s", -1}}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(check(Task(), params))) << params;
  }
  const absl::Status bound =
      PatchRule(runner_, {.time_s = 30}).check_row(Task().dump(), {{"time_limit_s", 31}});
  EXPECT_NE(std::string(bound.message()).find("sandbox.max_time_limit_s"), std::string::npos)
      << bound;
}

TEST_F(PatchRuleTest, TheSandboxsFailureIsNoJudgementAndAnOlderOneIsRefused) {
  runner_->fault = absl::InternalError("broken");
  EXPECT_TRUE(absl::IsUnavailable(rule_.Judge(kGoldPatch, Task().dump(), {}).status()));
  EXPECT_TRUE(absl::IsUnavailable(PatchRule(nullptr).Judge(kGoldPatch, Task().dump(), {}).status()));
  EXPECT_TRUE(MakeBuiltinGrader("patch", RewardSection{}, {.sandbox = runner_}).ok());
  runner_->description.takes_files = false;
  EXPECT_TRUE(absl::IsFailedPrecondition(
      MakeBuiltinGrader("patch", RewardSection{}, {.sandbox = runner_}).status()));
  EXPECT_TRUE(MakeBuiltinGrader("code", RewardSection{}, {.sandbox = runner_}).ok());
}

}  // namespace
}  // namespace tramontane
