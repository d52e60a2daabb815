#include "verifier/grade_tool.h"

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <vector>

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

absl::StatusOr<FinishReason> Finished(const Json& item, const std::string& where) {
  ASSIGN_OR_RETURN(const std::optional<std::string> reason, Text(item, where, "finish_reason"));
  if (!reason || *reason == "stop") return FinishReason::kStop;
  if (*reason == "length") return FinishReason::kLength;
  if (*reason == "repetition") return FinishReason::kRepetition;
  return FieldError(where + ".finish_reason", "must be stop, length or repetition");
}

absl::StatusOr<int32_t> TokenCount(const Json& item, const std::string& where) {
  const auto it = item.find("completion_tokens");
  if (it == item.end() || it->is_null()) return 0;
  if (!it->is_number_unsigned() || it->get<uint64_t>() > 1'000'000'000) {
    return FieldError(where + ".completion_tokens", "must be a count");
  }
  return it->get<int32_t>();
}

absl::Status CheckKeys(const Json& item, const std::string& where,
                       const std::set<std::string>& known) {
  if (!item.is_object()) return FieldError(where, "must be an object");
  for (const auto& [key, value] : item.items()) {
    if (!known.contains(key)) return FieldError(where + "." + key, "unknown field");
  }
  return absl::OkStatus();
}

void CheckDeadline(double deadline_s, Verdict& verdict) {
  if (verdict.exec_seconds <= deadline_s) return;
  verdict.status = VerdictStatus::kTimeout;
  verdict.score.reset();
  verdict.components.clear();
  verdict.correct = false;
  verdict.feedback = "grading took longer than deadline_s";
}

// {"group": [{"completion", "completion_tokens", "finish_reason"}]} with the rest of `request`.
absl::StatusOr<Json> GradeWholeGroup(const Grader& grader, const GradeRequest& request,
                                     const Json& group, double deadline_s,
                                     const std::string& where) {
  if (!group.is_array() || group.empty()) return FieldError(where, "must be a list of completions");
  std::vector<GradeRequest> requests;
  for (size_t i = 0; i < group.size(); ++i) {
    const std::string sample = where + "[" + std::to_string(i) + "]";
    RETURN_IF_ERROR(CheckKeys(group[i], sample, {"completion", "completion_tokens", "finish_reason"}));
    ASSIGN_OR_RETURN(const std::optional<std::string> completion, Text(group[i], sample, "completion"));
    if (!completion) return FieldError(sample + ".completion", "missing");
    GradeRequest& one = requests.emplace_back(request);
    one.completion = *completion;
    ASSIGN_OR_RETURN(one.completion_tokens, TokenCount(group[i], sample));
    ASSIGN_OR_RETURN(one.finish_reason, Finished(group[i], sample));
  }
  Json verdicts = Json::array();
  for (Verdict& verdict : grader.GradeGroup(requests)) {
    CheckDeadline(deadline_s, verdict);
    verdicts.push_back(VerdictJson(verdict));
  }
  return Json{{"group", std::move(verdicts)}};
}

absl::StatusOr<Json> GradeItem(const Grader& grader, const Json& item, const std::string& where) {
  RETURN_IF_ERROR(CheckKeys(item, where, {"prompt", "completion", "answer", "group", "gold", "params",
                                          "deadline_s", "completion_tokens", "finish_reason"}));
  ASSIGN_OR_RETURN(const std::optional<std::string> prompt, Text(item, where, "prompt"));
  ASSIGN_OR_RETURN(const std::optional<std::string> completion, Text(item, where, "completion"));
  ASSIGN_OR_RETURN(const std::optional<std::string> answer, Text(item, where, "answer"));
  ASSIGN_OR_RETURN(const std::optional<std::string> gold, Text(item, where, "gold"));
  ASSIGN_OR_RETURN(const double deadline_s, Deadline(item, where));
  const bool group = item.contains("group");
  if (completion.has_value() + answer.has_value() + group != 1) {
    return FieldError(where, "needs either \"completion\", \"answer\" or \"group\"");
  }
  GradeRequest request;
  request.prompt = prompt.value_or("");
  request.answer = gold.value_or("");
  if (item.contains("params")) request.params = item["params"];
  ASSIGN_OR_RETURN(request.completion_tokens, TokenCount(item, where));
  ASSIGN_OR_RETURN(request.finish_reason, Finished(item, where));
  if (const absl::Status row = grader.CheckRow(request.answer, request.params); !row.ok()) {
    const bool params = row.message().find("params") != row.message().npos;
    return Annotate(row, where + (params ? "" : ".gold"));
  }
  if (group) return GradeWholeGroup(grader, request, item["group"], deadline_s, where + ".group");

  request.completion = completion ? *completion : *answer;
  Verdict verdict = completion ? grader.Grade(request) : grader.GradeBare(request);
  CheckDeadline(deadline_s, verdict);
  return VerdictJson(verdict);
}

}  // namespace

absl::StatusOr<Json> GradeTool(const std::string& name, const Json& in,
                               const RewardSection& reward,
                               const GraderTools& tools) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Grader> grader, MakeBuiltinGrader(name, reward, tools));
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
