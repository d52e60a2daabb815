#include "verifier/code/code_rule.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/status.h"
#include "verifier/code/code_params.h"
#include "verifier/code/code_tests.h"
#include "verifier/code/outcome.h"
#include "verifier/code/program_text.h"

namespace tramontane {
namespace {

constexpr size_t kMaxDetailBytes = 160;

// Valid UTF-8 of bounded length, whatever a program wrote: feedback travels as text.
std::string Shortened(const std::string& text) {
  const std::string part = text.substr(0, kMaxDetailBytes);
  const std::string quoted = Json(part).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>() + (part.size() < text.size() ? "…" : "");
}

std::string LastLine(const std::string& text) {
  const size_t end = text.find_last_not_of("\n\r \t");
  if (end == text.npos) return "";
  const size_t start = text.find_last_of('\n', end) + 1;  // 0 when there is no line before it
  return text.substr(start, end + 1 - start);
}

bool Passes(const CodeTests& tests, const CodeTest& test, const CodeParams& params,
            const ProgramRun& run) {
  if (run.end != RunEnd::kExited || run.code != 0) return false;
  if (tests.function.empty()) {
    return SameOutput(test.output, run.output, params.comparison, params.tolerance);
  }
  const Json result = Json::parse(run.output, nullptr, /*allow_exceptions=*/false);
  if (result.is_discarded()) return false;
  const Json expected = Json::parse(test.output);
  const bool wrapped = test.maybe_wrapped && expected.is_array() && expected.size() == 1;
  return SameResult(expected, result, params.tolerance) ||
         (wrapped && SameResult(expected[0], result, params.tolerance));
}

// Says how the run went, and nothing of what was expected: feedback is stored with rollouts.
std::string Explain(const ProgramRun& run) {
  switch (run.end) {
    case RunEnd::kExited:
      if (run.code == 0) return "wrong output";
      return "exit status " + std::to_string(run.code) + ": " + Shortened(LastLine(run.error));
    case RunEnd::kSignalled:
      return "signal " + std::to_string(run.code);
    case RunEnd::kTimeLimit:
      return "time limit";
    case RunEnd::kOutputLimit:
      return "output limit";
    case RunEnd::kCompileError:
      return "does not compile: " + Shortened(run.error);
  }
  return "";
}

// What the tests of one answer may take together: processor time, and the time that a program which
// sleeps or waits takes without any. What a busy machine made it wait is not its own.
class Budget {
 public:
  explicit Budget(double cpu_s) : cpu_left_s_(cpu_s), wall_left_s_(2 * cpu_s + 1) {}

  bool spent() const { return cpu_left_s_ <= 0 || wall_left_s_ <= 0; }
  void Take(const ProgramRun& run) {
    cpu_left_s_ -= run.cpu_seconds;
    wall_left_s_ -= run.wall_seconds - run.starved_seconds;
  }

 private:
  double cpu_left_s_, wall_left_s_;
};

absl::StatusOr<Judgement> RunTests(ProgramRunner& runner, const CodeTests& tests,
                                   const CodeParams& params, const ProgramSpec& program,
                                   const StopCheck& stop) {
  std::vector<bool> passed(tests.tests.size());
  size_t count = 0;
  Budget budget(params.total_time_limit_s);
  std::string failure;  // of the first test that failed
  for (size_t i = 0; i < tests.tests.size(); ++i) {
    // One failed test decides what `all` is worth.
    if (params.scoring == Scoring::kAll && !failure.empty()) break;
    const std::string where = "test " + std::to_string(i + 1) + ": ";
    if (stop && stop()) return absl::CancelledError("nobody waits for the verdict any more");
    if (budget.spent()) {
      if (failure.empty()) failure = where + "total time limit";
      break;
    }
    ASSIGN_OR_RETURN(const ProgramRun run,
                     runner.Run(program, tests.tests[i].input, params.limits));
    budget.Take(run);
    passed[i] = Passes(tests, tests.tests[i], params, run);
    count += passed[i] ? 1 : 0;
    if (!passed[i] && failure.empty()) failure = where + Explain(run);
    if (run.end == RunEnd::kCompileError) break;
  }
  Judgement judgement;
  judgement.correct = count == passed.size();
  judgement.share = ScoreTests(tests, passed, params.scoring);
  const std::string of_all =
      std::to_string(count) + " of " + std::to_string(passed.size()) + " tests";
  judgement.feedback = (failure.empty() ? "" : failure + "; ") + "passes " + of_all;
  return judgement;
}

Judgement Wrong(const std::string& feedback) {
  Judgement judgement;
  judgement.feedback = feedback;
  return judgement;
}

absl::StatusOr<bool> Offers(ProgramRunner& runner, const std::string& language) {
  ASSIGN_OR_RETURN(const SandboxDescription description, runner.Describe());
  return std::ranges::count(description.languages, language) > 0;
}

// An answer may choose its language; all else that the runner objects to is the row's.
absl::StatusOr<Judgement> Unrunnable(ProgramRunner& runner, const ProgramSpec& program,
                                     bool own_choice, const absl::Status& objection) {
  if (!own_choice || !absl::IsInvalidArgument(objection)) return objection;
  ASSIGN_OR_RETURN(const bool offered, Offers(runner, program.language));
  if (offered) return objection;
  return Wrong(std::string(objection.message()));
}

// Whatever else may be wrong, the sandbox is.
absl::Status OfSandbox(const absl::Status& status) {
  if (absl::IsInvalidArgument(status) || absl::IsCancelled(status)) return status;
  return absl::UnavailableError(std::string(status.message()));
}

absl::StatusOr<Judgement> Judge(ProgramRunner* runner, const std::string& text,
                                const std::string& gold, const Json& params_json,
                                const StopCheck& stop) {
  ASSIGN_OR_RETURN(const CodeTests tests, ParseCodeTests(gold));
  ASSIGN_OR_RETURN(const CodeParams params, ParseCodeParams(params_json));
  if (!runner) return absl::UnavailableError("no sandbox runs programs here");
  const std::optional<ProgramText> found = FindProgram(text);
  if (!found) return Wrong("no fenced code block");
  if (found->source.size() > kMaxSourceBytes) return Wrong("the program is too long");
  ProgramSpec program{params.language, found->source, tests.function};
  if (program.language.empty()) program.language = found->language;
  if (program.language.empty()) program.language = "python";
  absl::StatusOr<Judgement> judgement = RunTests(*runner, tests, params, program, stop);
  const bool own_choice = params.language.empty() && !found->language.empty();
  if (!judgement.ok()) judgement = Unrunnable(*runner, program, own_choice, judgement.status());
  if (!judgement.ok()) return OfSandbox(judgement.status());
  judgement->extracted = found->source;
  return judgement;
}

}  // namespace

AnswerRule CodeRule(std::shared_ptr<ProgramRunner> runner) {
  AnswerRule rule;
  rule.name = "code";
  rule.version = "1.1.0";
  rule.pure = false;  // programs may draw at random, and meet their time limit or not
  rule.params_schema = CodeParamsSchema();
  rule.judge_long = [runner](const std::string& text, const std::string& gold, const Json& params,
                             const StopCheck& stop) {
    return Judge(runner.get(), text, gold, params, stop);
  };
  rule.judge = [runner](const std::string& text, const std::string& gold, const Json& params) {
    return Judge(runner.get(), text, gold, params, nullptr);
  };
  rule.check_row = [](const std::string& gold, const Json& params) {
    RETURN_IF_ERROR(ParseCodeTests(gold).status());
    return ParseCodeParams(params).status();
  };
  return rule;
}

}  // namespace tramontane
