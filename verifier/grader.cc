#include "verifier/grader.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "verifier/code/code_rule.h"
#include "verifier/reward_grader.h"
#include "verifier/reward_table.h"
#include "verifier/rules/ifeval.h"
#include "verifier/rules/rule.h"
#include "verifier/terms.h"

namespace tramontane {
namespace {

std::vector<AnswerRule> Rules(const std::shared_ptr<const LanguageDetector>& detector,
                              std::shared_ptr<ProgramRunner> sandbox) {
  return {ChoiceRule(),     CodeRule(std::move(sandbox)),
          ExactRule(),      IfevalRule(detector),
          JsonSchemaRule(), MathRule(),
          RegexRule()};
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
absl::StatusOr<Json> Surroundings(const LanguageDetector& detector, ProgramRunner* sandbox) {
  Json surroundings = {{"language_model", detector.digest()}};
  if (sandbox == nullptr) return surroundings;
  ASSIGN_OR_RETURN(const SandboxDescription description, sandbox->Describe());
  surroundings["sandbox"] = {{"runtimes", description.runtimes},
                             {"time_s", description.most.time_s},
                             {"memory_bytes", description.most.memory_bytes},
                             {"output_bytes", description.most.output_bytes}};
  return surroundings;
}

}  // namespace

std::vector<std::string> BuiltinGraderNames() {
  std::vector<std::string> names = TermGraderNames();
  for (const AnswerRule& rule : Rules(nullptr, nullptr)) names.push_back(rule.name);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::unique_ptr<Grader>> MakeBuiltinGrader(const std::string& name,
                                                          const RewardSection& reward,
                                                          std::shared_ptr<ProgramRunner> sandbox) {
  RETURN_IF_ERROR(ValidateReward(reward));
  absl::StatusOr<std::shared_ptr<const LanguageDetector>> detector =
      LanguageDetector::Make(reward.language_model);
  if (!detector.ok()) return Annotate(detector.status(), "reward.language_model");
  for (AnswerRule& rule : Rules(*detector, sandbox)) {
    if (rule.name != name) continue;
    ASSIGN_OR_RETURN(std::vector<RewardTerm> terms, Terms(reward, *detector));
    ASSIGN_OR_RETURN(const Json surroundings, Surroundings(**detector, sandbox.get()));
    return std::make_unique<RewardGrader>(std::move(rule), reward, std::move(terms), surroundings);
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
