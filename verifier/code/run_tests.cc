#include "verifier/code/run_tests.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "common/status.h"
#include "verifier/code/outcome.h"

namespace tramontane {
namespace {

constexpr size_t kMaxDetailBytes = 160;

// Valid UTF-8 of bounded length, whatever a program wrote: feedback travels as text.
std::string OutputExcerpt(const std::string& text) {
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
      return "exit status " + std::to_string(run.code) + ": " + OutputExcerpt(LastLine(run.error));
    case RunEnd::kSignalled:
      return "signal " + std::to_string(run.code);
    case RunEnd::kTimeLimit:
      return "time limit";
    case RunEnd::kOutputLimit:
      return "output limit";
    case RunEnd::kCompileError:
      return "does not compile: " + OutputExcerpt(run.error);
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

}  // namespace

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

absl::Status OfSandbox(const absl::Status& status) {
  if (absl::IsInvalidArgument(status) || absl::IsCancelled(status)) return status;
  return absl::UnavailableError(std::string(status.message()));
}

}  // namespace tramontane
