#include "verifier/grader.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "verifier/algebra/algebra.h"
#include "verifier/code/code_rule.h"
#include "verifier/code/patch_rule.h"
#include "verifier/reward_grader.h"
#include "verifier/reward_table.h"
#include "verifier/rules/ifeval.h"
#include "verifier/rules/rule.h"
#include "verifier/terms.h"

namespace tramontane {
namespace {

std::vector<AnswerRule> Rules(const std::shared_ptr<const LanguageDetector>& detector,
                              const GraderTools& tools, const RunLimits& most) {
  return {ChoiceRule(),         CodeRule(tools.sandbox, most), ExactRule(),
          IfevalRule(detector), JsonSchemaRule(),              MathRule(tools.algebra),
          RegexRule(),          PatchRule(tools.sandbox, most)};
}

// Accuracy alone is what the rules are for.
std::vector<std::string> TermGraderNames() {
  std::vector<std::string> names = TermNames();
  std::erase(names, "accuracy");
  return names;
}

absl::StatusOr<std::vector<RewardTerm>> Terms(
    const RewardSection& reward, const std::shared_ptr<const LanguageDetector>& detector) {
  std::vector<RewardTerm> terms;
  if (reward.terms.empty() && reward.language > 0) {
    ASSIGN_OR_RETURN(RewardTerm language, MakeTerm("language", Json::object(), detector));
    terms.push_back(std::move(language));
  }
  for (const auto& [name, settings] : reward.terms) {
    ASSIGN_OR_RETURN(RewardTerm term, MakeTerm(name, settings, detector));
    terms.push_back(std::move(term));
  }
  return terms;
}

// What the verdicts depend on that is neither code nor `reward`.
Json Surroundings(const LanguageDetector& detector,
                  const std::optional<SandboxDescription>& sandbox, const Algebra* algebra) {
  Json surroundings = {{"language_model", detector.digest()}};
  if (algebra != nullptr) surroundings["algebra"] = algebra->version();
  if (!sandbox) return surroundings;
  surroundings["sandbox"] = {{"runtimes", sandbox->runtimes},
                             {"time_s", sandbox->most.time_s},
                             {"memory_bytes", sandbox->most.memory_bytes},
                             {"output_bytes", sandbox->most.output_bytes}};
  return surroundings;
}

}  // namespace

std::vector<std::string> BuiltinGraderNames() {
  std::vector<std::string> names = TermGraderNames();
  for (const AnswerRule& rule : Rules(nullptr, {}, kAnyLimits)) names.push_back(rule.name);
  std::sort(names.begin(), names.end());
  return names;
}

bool NeedsSandbox(const std::string& builtin) { return builtin == "code" || builtin == "patch"; }

absl::StatusOr<std::unique_ptr<Grader>> MakeBuiltinGrader(const std::string& name,
                                                          const RewardSection& reward,
                                                          const GraderTools& tools) {
  RETURN_IF_ERROR(ValidateReward(reward));
  absl::StatusOr<std::shared_ptr<const LanguageDetector>> detector =
      LanguageDetector::Make(reward.language_model);
  if (!detector.ok()) return Annotate(detector.status(), "reward.language_model");
  std::optional<SandboxDescription> description;
  if (tools.sandbox) {
    ASSIGN_OR_RETURN(description, tools.sandbox->Describe());
    if (name == "patch" && !description->takes_files) {
      return absl::FailedPreconditionError("the sandbox takes no files: it is of an older build");
    }
  }
  const RunLimits most = tools.most.value_or(description ? description->most : kAnyLimits);
  for (AnswerRule& rule : Rules(*detector, tools, most)) {
    if (rule.name != name) continue;
    ASSIGN_OR_RETURN(std::vector<RewardTerm> terms, Terms(reward, *detector));
    const Algebra* const algebra = name == "math" ? tools.algebra.get() : nullptr;
    return std::make_unique<RewardGrader>(std::move(rule), reward, std::move(terms),
                                          Surroundings(**detector, description, algebra));
  }
  const std::vector<std::string> terms = TermGraderNames();
  if (std::find(terms.begin(), terms.end(), name) != terms.end()) {
    return std::make_unique<TermGrader>(name, MathRule(), reward, *detector);
  }
  std::string known;
  for (const std::string& n : BuiltinGraderNames()) known += (known.empty() ? "" : ", ") + n;
  return absl::NotFoundError("no built-in verifier is named \"" + name + "\"; there are: " + known);
}

}  // namespace tramontane
