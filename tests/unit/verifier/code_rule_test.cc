// The code rule over a scripted sandbox: what is run, what is compared, what it is worth.
#include "verifier/code/code_rule.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "verifier/code/code_tests.h"
#include "verifier/code/outcome.h"
#include "verifier/code/program_text.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

// Answers as the test says, and remembers what it was asked.
class ScriptedRunner final : public ProgramRunner {
 public:
  using Script = std::function<absl::StatusOr<ProgramRun>(const std::string& input)>;
  explicit ScriptedRunner(Script script) : script_(std::move(script)) {}

  absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                 const RunLimits& limits) override {
    programs.push_back(program);
    last_limits = limits;
    return script_(std::string(input));
  }
  absl::StatusOr<SandboxDescription> Describe() override { return description; }

  SandboxDescription description;
  std::vector<ProgramSpec> programs;
  RunLimits last_limits;

 private:
  const Script script_;
};

std::shared_ptr<ScriptedRunner> Echo() {  // a program that prints what it reads
  return std::make_shared<ScriptedRunner>([](const std::string& input) {
    ProgramRun run;
    run.output = input;
    return run;
  });
}

const char kAnswer[] = "```python\nprint(input())\n```\n";

std::string Gold(const std::vector<std::pair<std::string, std::string>>& tests) {
  Json rows = Json::array();
  for (const auto& [input, output] : tests) rows.push_back({{"input", input}, {"output", output}});
  return Json{{"tests", rows}}.dump();
}

TEST(ProgramTextTest, TheFirstFencedBlockIsTheProgram) {
  const auto found = FindProgram("Here:\n```C++ title\nint x;\n\n```\nand\n```python\ny\n```");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->source, "int x;\n\n");
  EXPECT_EQ(found->language, "cpp");
  EXPECT_EQ(FindProgram("~~~~py\nprint('```')\n~~~\n~~~~")->source, "print('```')\n~~~\n");
  EXPECT_EQ(FindProgram("```\nx\n```")->language, "");
  EXPECT_EQ(FindProgram("```python\nno end")->source, "no end");
  EXPECT_FALSE(FindProgram("use ```code``` or    \n     ```\nindented"));
  EXPECT_FALSE(FindProgram(""));
}

TEST(CodeTestsTest, AllShapesMeanTheSame) {
  for (const char* text : {R"({"tests": [{"input": "1\n", "output": "2\n"}]})",
                           R"([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])",
                           R"({"inputs": ["1\n"], "outputs": ["2\n"], "fn_name": null})"}) {
    const auto tests = ParseCodeTests(text);
    ASSERT_TRUE(tests.ok()) << text << ": " << tests.status();
    ASSERT_EQ(tests->tests.size(), 1u);
    EXPECT_EQ(tests->tests[0].input, "1\n");
    EXPECT_EQ(tests->tests[0].output, "2\n");
    EXPECT_EQ(tests->function, "");
  }
  for (const char* text :
       {R"({"function": "f", "tests": [{"args": [[1, 2], "a"], "expected": 3}]})",
        R"({"fn_name": "f", "inputs": ["[1, 2]\n\"a\""], "outputs": ["3"]})",
        R"({"fn_name": "f", "inputs": [[[1, 2], "a"]], "outputs": [3]})",
        R"({"function": "f", "tests": [{"input": "[1, 2]\n\"a\"", "output": "3"}]})"}) {
    const auto tests = ParseCodeTests(text);
    ASSERT_TRUE(tests.ok()) << text << ": " << tests.status();
    EXPECT_EQ(tests->function, "f");
    EXPECT_EQ(tests->tests[0].input, R"([[1,2],"a"])");
    EXPECT_EQ(tests->tests[0].output, "3");
  }
}

TEST(CodeTestsTest, WhatCannotBeUnderstoodIsNamed) {
  for (const auto& [text, word] : std::vector<std::pair<std::string, std::string>>{
           {"42", "JSON"},
           {"{", "JSON"},
           {"{}", "tests"},
           {R"({"tests": []})", "none"},
           {R"({"tests": [{"input": "x"}]})", "output"},
           {R"({"tests": [{"input": 1, "output": ""}]})", "input"},
           {R"({"inputs": ["a"], "outputs": []})", "length"},
           {R"({"function": "f", "tests": [{"args": 1, "expected": 1}]})", "args"},
           {R"({"function": "f", "tests": [{"args": []}]})", "expected"},
           {R"({"tests": [{"input": "", "output": "", "level": 1}]})", "gap"},
           {R"({"tests": [{"input": "", "output": "", "level": -1}]})", "level"},
           {R"({"tests": [{"input": "", "output": ""}], "level_scores": [0]})", "positive"}}) {
    const absl::Status status = ParseCodeTests(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_NE(std::string(status.message()).find(word), std::string::npos) << status;
  }
}

TEST(OutcomeTest, OutputsAreComparedAsAsked) {
  using enum Comparison;
  EXPECT_TRUE(SameOutput("1 2\n3\n", "1 2  \r\n3\n\n\n", kLines, 0));
  EXPECT_TRUE(SameOutput("", "\n \n", kLines, 0));
  EXPECT_FALSE(SameOutput("1 2\n3\n", "1  2\n3\n", kLines, 0));
  EXPECT_FALSE(SameOutput("1\n2", "1\n\n2", kLines, 0));
  EXPECT_FALSE(SameOutput("1\n2", "1", kLines, 0));
  EXPECT_FALSE(SameOutput("1", "1\n2", kLines, 0));
  EXPECT_TRUE(SameOutput("1 2\n3\n", "1\n2 3", kTokens, 0));
  EXPECT_FALSE(SameOutput("1 2", "12", kTokens, 0));
  EXPECT_FALSE(SameOutput("a\n", "a", kExact, 0));
  EXPECT_TRUE(SameOutput("0.3333333 x", "0.33333334 x", kLines, 1e-6));
  EXPECT_FALSE(SameOutput("0.3333333", "0.33333334", kLines, 0));
  EXPECT_TRUE(SameOutput("1e9", "1000000001", kTokens, 1e-6));
  EXPECT_FALSE(SameOutput("1", "nan", kTokens, 0.5));
  EXPECT_FALSE(SameOutput("abc", "abd", kTokens, 0.5));
}

TEST(OutcomeTest, ResultsAreComparedAsValues) {
  const auto same = [](const char* a, const char* b, double tolerance = 0) {
    return SameResult(Json::parse(a), Json::parse(b), tolerance);
  };
  EXPECT_TRUE(same("[1, {\"a\": 2.0}]", "[1.0, {\"a\": 2}]"));
  EXPECT_FALSE(same("1", "true"));
  EXPECT_FALSE(same("[1, 2]", "[1]"));
  EXPECT_FALSE(same("{\"a\": 1}", "{\"b\": 1}"));
  EXPECT_FALSE(same("null", "0"));
  EXPECT_FALSE(same("\"1\"", "1"));
  EXPECT_TRUE(same("[0.1]", "[0.1000001]", 1e-5));
}

TEST(OutcomeTest, LevelsScoreAsMiMoDescribes) {
  // Easy {2 tests, .5}, hard {2, .5}: both easy ones and one hard one passed.
  CodeTests tests;
  tests.tests = {{"", "", false, 0}, {"", "", false, 0}, {"", "", false, 1}, {"", "", false, 1}};
  tests.level_scores = {0.5, 0.5};
  const std::vector<bool> three = {true, true, true, false};
  EXPECT_DOUBLE_EQ(ScoreTests(tests, three, Scoring::kStrict), 0.5);
  EXPECT_DOUBLE_EQ(ScoreTests(tests, three, Scoring::kSoft), 0.75);
  EXPECT_DOUBLE_EQ(ScoreTests(tests, three, Scoring::kAll), 0);
  EXPECT_DOUBLE_EQ(ScoreTests(tests, three, Scoring::kFraction), 0.75);
  // A hard level without the easy one below it is worth nothing to `strict`.
  const std::vector<bool> hard_only = {false, true, true, true};
  EXPECT_DOUBLE_EQ(ScoreTests(tests, hard_only, Scoring::kStrict), 0);
  EXPECT_DOUBLE_EQ(ScoreTests(tests, hard_only, Scoring::kSoft), 0.75);
  for (const Scoring scoring :
       {Scoring::kAll, Scoring::kFraction, Scoring::kStrict, Scoring::kSoft}) {
    EXPECT_DOUBLE_EQ(ScoreTests(tests, {true, true, true, true}, scoring), 1);
  }
}

TEST(CodeRuleTest, EveryTestIsRunAndCompared) {
  const auto runner = Echo();
  const AnswerRule rule = CodeRule(runner);
  const auto right = rule.Judge(kAnswer, Gold({{"a", "a\n"}, {"b", "b"}}), {});
  ASSERT_TRUE(right.ok()) << right.status();
  EXPECT_TRUE(right->correct);
  EXPECT_EQ(right->share, 1);
  EXPECT_EQ(runner->programs.size(), 2u);
  EXPECT_EQ(runner->programs[0].language, "python");
  EXPECT_EQ(runner->programs[0].source, "print(input())\n");

  const auto part = rule.Judge(kAnswer, Gold({{"a", "x"}, {"b", "b"}}), {{"scoring", "fraction"}});
  EXPECT_FALSE(part->correct);
  EXPECT_EQ(part->share, 0.5);
  EXPECT_EQ(part->feedback, "test 1: wrong output; passes 1 of 2 tests");
  EXPECT_EQ(runner->programs.size(), 4u);
  EXPECT_FALSE(rule.Judge(kAnswer, Gold({{"a", "x"}, {"b", "b"}}), {})->correct);
  EXPECT_EQ(runner->programs.size(), 5u) << "after a failed test `all` is decided";
}

TEST(CodeRuleTest, RightOutputDoesNotExcuseHowAProgramEnded) {
  for (const auto& [end, code] : std::vector<std::pair<RunEnd, int>>{{RunEnd::kExited, 1},
                                                                     {RunEnd::kSignalled, 9},
                                                                     {RunEnd::kTimeLimit, 0},
                                                                     {RunEnd::kOutputLimit, 0},
                                                                     {RunEnd::kCompileError, 0}}) {
    ProgramRun run;
    run.end = end;
    run.code = code;
    run.output = "a";
    run.error = "trace\nValueError: \xff bad\n";
    const auto runner =
        std::make_shared<ScriptedRunner>([&run](const std::string&) { return run; });
    const auto judgement = CodeRule(runner).Judge(kAnswer, Gold({{"a", "a"}}), {});
    ASSERT_TRUE(judgement.ok());
    EXPECT_FALSE(judgement->correct) << ToString(end);
    EXPECT_EQ(judgement->share, 0);
    EXPECT_NO_THROW(Json(judgement->feedback).dump()) << "valid text";
  }
}

TEST(CodeRuleTest, TheSandboxsFailureIsNoJudgement) {
  const auto runner = std::make_shared<ScriptedRunner>(
      [](const std::string&) { return absl::UnavailableError("the jail is gone"); });
  EXPECT_TRUE(
      absl::IsUnavailable(CodeRule(runner).Judge(kAnswer, Gold({{"a", "a"}}), {}).status()));
  EXPECT_TRUE(
      absl::IsUnavailable(CodeRule(nullptr).Judge(kAnswer, Gold({{"a", "a"}}), {}).status()));

  const auto grader = MakeBuiltinGrader("code", RewardSection{}, {.sandbox = runner});
  ASSERT_TRUE(grader.ok()) << grader.status();
  GradeRequest request;
  request.completion = std::string("<think>x</think>") + kAnswer;
  request.answer = Gold({{"a", "a"}});
  const Verdict verdict = (*grader)->Grade(request);
  EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_EQ(verdict.fault, Fault::kSandbox);
  EXPECT_FALSE(verdict.score.has_value());
}

TEST(CodeRuleTest, WhatTheAnswerChoosesIsTheAnswersFault) {
  const auto picky = std::make_shared<ScriptedRunner>([](const std::string&) {
    return absl::InvalidArgumentError("language 'cpp' is not offered");
  });
  const std::string cxx = "```cpp\nint main() {}\n```";
  EXPECT_EQ(CodeRule(picky).Judge(cxx, Gold({{"a", "a"}}), {})->share, 0);
  EXPECT_TRUE(absl::IsInvalidArgument(
      CodeRule(picky).Judge(cxx, Gold({{"a", "a"}}), {{"language", "cpp"}}).status()))
      << "the row chose it";
  EXPECT_EQ(CodeRule(Echo()).Judge("no block", Gold({{"a", "a"}}), {})->feedback,
            "no fenced code block");
  const std::string huge = "```python\n" + std::string(kMaxSourceBytes + 1, '#') + "\n```";
  EXPECT_EQ(CodeRule(Echo()).Judge(huge, Gold({{"a", "a"}}), {})->feedback,
            "the program is too long");
}

TEST(CodeRuleTest, LimitsThatTheSandboxDoesNotGiveAreTheRowsFaultWhateverTheFenceSays) {
  const auto strict = std::make_shared<ScriptedRunner>([](const std::string&) {
    return absl::InvalidArgumentError("time limit: must be between 0.01 and 30 s");
  });
  strict->description.languages = {"python"};
  const auto judgement =
      CodeRule(strict).Judge(kAnswer, Gold({{"a", "a"}}), {{"time_limit_s", 60}});
  EXPECT_TRUE(absl::IsInvalidArgument(judgement.status())) << judgement.status();

  const auto grader = MakeBuiltinGrader("code", RewardSection{}, {.sandbox = strict});
  ASSERT_TRUE(grader.ok()) << grader.status();
  GradeRequest request;
  request.completion = std::string("<think>x</think>") + kAnswer;
  request.answer = Gold({{"a", "a"}});
  const Verdict verdict = (*grader)->Grade(request);
  EXPECT_EQ(verdict.status, VerdictStatus::kInfraFailure);
  EXPECT_EQ(verdict.fault, Fault::kRow);
}

TEST(CodeRuleTest, ProgramsThatWaitUseUpTheTotalLimitAndABusyMachineDoesNot) {
  Json tests = Json::array();
  for (int i = 0; i < 1000; ++i) tests.push_back({{"input", "a"}, {"output", "b"}});
  const std::string gold = Json{{"tests", tests}}.dump();
  const Json params = {{"scoring", "fraction"}, {"total_time_limit_s", 60}};
  ProgramRun sleepy;
  sleepy.end = RunEnd::kTimeLimit;
  sleepy.wall_seconds = 9;
  const auto runner =
      std::make_shared<ScriptedRunner>([&sleepy](const std::string&) { return sleepy; });
  const auto judgement = CodeRule(runner).Judge(kAnswer, gold, params);
  ASSERT_TRUE(judgement.ok()) << judgement.status();
  EXPECT_EQ(judgement->share, 0);
  EXPECT_EQ(runner->programs.size(), 14u) << "121 s at 9 s each";
  sleepy.starved_seconds = 9;
  runner->programs.clear();
  EXPECT_TRUE(CodeRule(runner).Judge(kAnswer, gold, params).ok());
  EXPECT_EQ(runner->programs.size(), 1000u);
}

TEST(CodeRuleTest, TestsEndWhenNobodyWaitsForTheVerdict) {
  const auto runner = Echo();
  const AnswerRule rule = CodeRule(runner);
  const std::string gold = Gold({{"a", "a"}, {"b", "b"}, {"c", "c"}});
  const auto judgement =
      rule.Judge(kAnswer, gold, {}, [&runner] { return runner->programs.size() >= 2; });
  EXPECT_TRUE(absl::IsCancelled(judgement.status())) << judgement.status();
  EXPECT_EQ(runner->programs.size(), 2u);
}

TEST(CodeRuleTest, TheDigestHasWhatRunsTheProgramsAndItsLimits) {
  const auto digest = [](const std::function<void(SandboxDescription&)>& change) {
    const auto runner = Echo();
    change(runner->description);
    return (*MakeBuiltinGrader("code", RewardSection{}, {.sandbox = runner}))->digest();
  };
  const std::string plain = digest([](SandboxDescription&) {});
  EXPECT_EQ(plain, digest([](SandboxDescription& d) { d.programs = 7; }));
  EXPECT_NE(plain, digest([](SandboxDescription& d) { d.runtimes = {"python 3.12.1"}; }));
  EXPECT_NE(plain, digest([](SandboxDescription& d) { d.most.time_s = 7; }));
}

TEST(CodeRuleTest, RowsSetTheLimitsAndAreChecked) {
  const auto runner = Echo();
  const AnswerRule rule = CodeRule(runner);
  const Json params = {{"time_limit_s", 0.5},
                       {"memory_limit_mib", 64},
                       {"output_limit_kib", 2},
                       {"compare", "tokens"},
                       {"somebody_elses", 1}};
  EXPECT_TRUE(rule.Judge(kAnswer, Gold({{"a  b", "a b"}}), params)->correct);
  EXPECT_EQ(runner->last_limits.time_s, 0.5);
  EXPECT_EQ(runner->last_limits.memory_bytes, 64 << 20);
  EXPECT_EQ(runner->last_limits.output_bytes, 2048);
  for (const Json& wrong :
       {Json{{"scoring", "most"}}, Json{{"time_limit_s", 0}}, Json{{"compare", 3}},
        Json{{"memory_limit_mib", 1}}, Json{{"language", "perl"}}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(rule.check_row(Gold({{"a", "a"}}), wrong))) << wrong;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(rule.check_row("42", {})));
  EXPECT_TRUE(rule.check_row(Gold({{"a", "a"}}), {}).ok());
}

TEST(CodeRuleTest, FunctionsAreComparedByValue) {
  const auto runner = std::make_shared<ScriptedRunner>([](const std::string& input) {
    ProgramRun run;
    run.output = input == "[1]" ? "[0, 1.0]" : "nonsense";
    return run;
  });
  const AnswerRule rule = CodeRule(runner);
  const auto gold = [](const char* args) {
    return std::string(R"({"function": "f", "tests": [{"args": )") + args +
           R"(, "expected": [0, 1]}]})";
  };
  EXPECT_TRUE(rule.Judge(kAnswer, gold("[1]"), {})->correct);
  EXPECT_FALSE(rule.Judge(kAnswer, gold("[2]"), {})->correct);
  EXPECT_EQ(runner->programs[0].function, "f");
  EXPECT_TRUE(rule.Judge(kAnswer, R"({"fn_name": "f", "inputs": [[1]], "outputs": [[[0, 1]]]})", {})
                  ->correct)
      << "APPS wraps results";
}

}  // namespace
}  // namespace tramontane
