#include "verifier/code/code_rule.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/status.h"
#include "verifier/code/code_params.h"
#include "verifier/code/code_tests.h"
#include "verifier/code/program_text.h"
#include "verifier/code/run_tests.h"

namespace tramontane {
namespace {

Judgement NoProgram(const std::string& feedback) {
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
  return NoProgram(std::string(objection.message()));
}

absl::StatusOr<Judgement> JudgeProgram(ProgramRunner* runner, const std::string& text,
                                const std::string& gold, const Json& params_json,
                                const StopCheck& stop) {
  ASSIGN_OR_RETURN(const CodeTests tests, ParseCodeTests(gold));
  ASSIGN_OR_RETURN(const CodeParams params, ParseCodeParams(params_json));
  if (!runner) return absl::UnavailableError("no sandbox runs programs here");
  const std::optional<ProgramText> found = FindProgram(text);
  if (!found) return NoProgram("no fenced code block");
  if (found->source.size() > kMaxSourceBytes) return NoProgram("the program is too long");
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

AnswerRule CodeRule(std::shared_ptr<ProgramRunner> runner, const RunLimits& most) {
  AnswerRule rule;
  rule.name = "code";
  rule.version = "1.1.0";
  rule.pure = false;  // programs may draw at random, and meet their time limit or not
  rule.params_schema = CodeParamsSchema(most);
  rule.judge_long = [runner](const std::string& text, const std::string& gold, const Json& params,
                             const StopCheck& stop) {
    return JudgeProgram(runner.get(), text, gold, params, stop);
  };
  rule.check_row = [most](const std::string& gold, const Json& params) {
    RETURN_IF_ERROR(ParseCodeTests(gold).status());
    return ParseCodeParams(params, most).status();
  };
  return rule;
}

}  // namespace tramontane
