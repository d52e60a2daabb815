#include "verifier/grade_tool.h"

#include <cmath>
#include <memory>
#include <optional>
#include <set>

#include "common/status.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

absl::Status FieldError(const std::string& field, const std::string& problem) {
  return absl::InvalidArgumentError(field + ": " + problem);
}

// Absent when the key is absent or null.
absl::StatusOr<std::optional<std::string>> Text(const Json& item, const std::string& where,
                                                const char* key) {
  const auto it = item.find(key);
  if (it == item.end() || it->is_null()) return std::nullopt;
  if (!it->is_string()) return FieldError(where + "." + key, "must be a string");
  return it->get<std::string>();
}

absl::StatusOr<double> Deadline(const Json& item, const std::string& where) {
  const auto it = item.find("deadline_s");
  if (it == item.end() || it->is_null()) return HUGE_VAL;
  if (!it->is_number() || !(it->get<double>() > 0)) {
    return FieldError(where + ".deadline_s", "must be a positive number");
  }
  return it->get<double>();
}

Json VerdictJson(const Verdict& verdict) {
  return {{"status", ToString(verdict.status)},
          {"score", verdict.score ? Json(*verdict.score) : Json(nullptr)},
          {"correct", verdict.correct},
          {"components", verdict.components},
          {"extracted", verdict.extracted},
          {"feedback", verdict.feedback},
          {"exec_seconds", verdict.exec_seconds}};
}

absl::StatusOr<Json> GradeItem(const Grader& grader, const Json& item, const std::string& where) {
  static const std::set<std::string> kKeys = {"prompt", "completion", "answer",
                                              "gold",   "params",     "deadline_s"};
  if (!item.is_object()) return FieldError(where, "must be an object");
  for (const auto& [key, value] : item.items()) {
    if (!kKeys.contains(key)) return FieldError(where + "." + key, "unknown field");
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> prompt, Text(item, where, "prompt"));
  ASSIGN_OR_RETURN(const std::optional<std::string> completion, Text(item, where, "completion"));
  ASSIGN_OR_RETURN(const std::optional<std::string> answer, Text(item, where, "answer"));
  ASSIGN_OR_RETURN(const std::optional<std::string> gold, Text(item, where, "gold"));
  ASSIGN_OR_RETURN(const double deadline_s, Deadline(item, where));
  if (completion.has_value() == answer.has_value()) {
    return FieldError(where, "needs either \"completion\" or \"answer\"");
  }
  if (!gold) return FieldError(where + ".gold", "missing");
  RETURN_IF_ERROR(Annotate(grader.CheckAnswer(*gold), where + ".gold"));

  Verdict verdict;
  if (completion) {
    GradeRequest request;
    request.prompt = prompt.value_or("");
    request.completion = *completion;
    request.answer = *gold;
    if (item.contains("params")) request.params = item["params"];
    verdict = grader.Grade(request);
  } else {
    verdict = grader.GradeAnswer(*answer, *gold);
  }
  if (verdict.exec_seconds > deadline_s) {
    verdict.status = VerdictStatus::kTimeout;
    verdict.score.reset();
    verdict.components.clear();
    verdict.correct = false;
    verdict.feedback = "grading took longer than deadline_s";
  }
  return VerdictJson(verdict);
}

}  // namespace

absl::StatusOr<Json> GradeTool(const std::string& name, const Json& in,
                               const RewardSection& reward) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Grader> grader, MakeBuiltinGrader(name, reward));
  if (!in.is_object()) return FieldError("document", "must be an object with \"items\"");
  const auto items = in.find("items");
  if (items == in.end() || !items->is_array()) return FieldError("items", "must be an array");
  Json verdicts = Json::array();
  for (size_t i = 0; i < items->size(); ++i) {
    ASSIGN_OR_RETURN(Json verdict,
                     GradeItem(*grader, (*items)[i], "items[" + std::to_string(i) + "]"));
    verdicts.push_back(std::move(verdict));
  }
  return Json{{"verdicts", std::move(verdicts)}};
}

}  // namespace tramontane
