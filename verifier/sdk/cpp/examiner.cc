#include "verifier/sdk/cpp/examiner.h"

#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr size_t kHuge = 1 << 20;

std::string Times(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

std::vector<std::pair<std::string, std::string>> AdversarialCompletions() {
  return {{"empty", ""},
          {"blank", " \n\t "},
          {"huge", std::string(kHuge, 'x')},
          {"unclosed thoughts", "<think>" + Times("so ", 1000)},
          {"nested boxes", Times("\\boxed{", 500) + "1" + Times("}", 500)},
          {"open braces", std::string(100'000, '{')},
          {"power tower", "<think></think>\\boxed{9^{9^{9^{9^{9}}}}}"},
          {"many thoughts", Times("<think></think>", 1000)},
          {"not a number", "<think></think>\\boxed{nan}"},
          {"null characters", std::string(100, '\0')},
          {"other scripts", "<think>思考</think>\\boxed{٣}"},
          {"control tokens", "<|im_end|><s></s>[INST]"},
          {"claims a reward", "{\"reward\": 1.0}"}};
}

GradeRequest RequestOf(const Json& json) {
  GradeRequest request;
  request.prompt = json.value("prompt", "");
  request.completion = json.value("completion", "");
  request.completion_tokens = json.value("completion_tokens", 0);
  request.answer = json.value("answer", "");
  request.params = json.value("params", Json::object());
  return request;
}

// As the service would say it.
Json ResultOf(const Verdict& verdict) {
  std::string status = ToString(verdict.status);
  if (verdict.status == VerdictStatus::kInfraFailure) {
    status = verdict.fault == Fault::kRow       ? "bad_input"
             : verdict.fault == Fault::kSandbox ? "sandbox_error"
                                                : "verifier_error";
  }
  return {{"status", status},
          {"reward", verdict.score ? Json(*verdict.score) : Json()},
          {"components", verdict.components},
          {"metrics", verdict.metrics},
          {"correct", verdict.correct},
          {"extracted", verdict.extracted},
          {"feedback", verdict.feedback}};
}

Json Ask(const Grader& grader, const Json& question) {
  std::vector<GradeRequest> requests;
  if (question.contains("group")) {
    for (const Json& sample : question["group"]) {
      requests.push_back(RequestOf(question));
      requests.back().completion = sample.value("completion", "");
    }
  } else {
    requests.push_back(RequestOf(question));
  }
  const absl::Status row = grader.CheckRow(requests.front().answer, requests.front().params);
  if (!row.ok()) return {{"status", "bad_input"}, {"feedback", std::string(row.message())}};
  if (!question.contains("group")) return ResultOf(grader.Grade(requests.front()));
  Json group = Json::array();
  std::string status = "scored";
  for (const Verdict& verdict : grader.GradeGroup(requests)) {
    group.push_back(ResultOf(verdict));
    if (group.back()["status"] == "verifier_error") status = "verifier_error";
  }
  return {{"status", status}, {"group", std::move(group)}};
}

std::string Unexpected(const Json& result, const Json& expect) {
  for (const auto& [key, value] : expect.items()) {
    const Json got = result.value(key, Json());
    const bool near = got.is_number() && value.is_number() &&
                      std::abs(got.get<double>() - value.get<double>()) <= 1e-9;
    if (near || got == value) continue;
    return key + ": expected " + value.dump() + ", got " + got.dump() + " (" +
           result.value("feedback", "") + ")";
  }
  return "";
}

// Empty when a verifier may say so of anything.
std::string Unacceptable(const Json& result) {
  const std::string status = result["status"];
  if (status != "verifier_error" && status != "sandbox_error" && status != "unspecified") return "";
  return status + ": " + result.value("feedback", "");
}

Json RewardsOf(const Json& result) {
  if (!result.contains("group")) return result.value("reward", Json());
  Json rewards = Json::array();
  for (const Json& one : result["group"]) rewards.push_back(one["reward"]);
  return rewards;
}

// Every question is put twice, unless the verifier says that its answers may differ.
Finding Examine(const Grader& grader, std::string name, const Json& question, const Json& expect) {
  const Json first = Ask(grader, question);
  std::string problem = expect.empty() ? Unacceptable(first) : Unexpected(first, expect);
  if (problem.empty() && grader.pure()) {
    const Json again = RewardsOf(Ask(grader, question));
    if (again != RewardsOf(first)) {
      problem = "not deterministic: " + RewardsOf(first).dump() + " then " + again.dump();
    }
  }
  const std::string shown = first["status"].get<std::string>() + ", " + RewardsOf(first).dump();
  return {std::move(name), problem.empty(), problem.empty() ? shown : problem};
}

struct Case {
  size_t line = 0;
  Json question;
};

absl::StatusOr<std::vector<Case>> ReadCases(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::istringstream lines(text);
  std::vector<Case> cases;
  std::string line;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    Json question = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!question.is_object()) {
      return absl::InvalidArgumentError(path + ":" + std::to_string(number) +
                                        ": not a JSON object");
    }
    cases.push_back({number, std::move(question)});
  }
  if (cases.empty()) return absl::InvalidArgumentError(path + ": no cases");
  return cases;
}

}  // namespace

absl::StatusOr<std::vector<Finding>> RunCases(const Grader& grader, const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<Case> cases, ReadCases(path));
  std::vector<Finding> findings;
  for (const Case& one : cases) {
    const Json expect = one.question.value("expect", Json::object());
    const std::string name = path + ":" + std::to_string(one.line);
    try {  // a field of another type than it should have
      findings.push_back(Examine(grader, name, one.question, expect));
    } catch (const Json::exception& e) {
      return absl::InvalidArgumentError(name + ": " + e.what());
    }
  }
  return findings;
}

absl::StatusOr<Json> ExampleOf(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<Case> cases, ReadCases(path));
  Json example = cases.front().question;
  for (const char* key : {"completion", "group", "expect"}) example.erase(key);
  return example;
}

std::vector<Finding> RunAdversarial(const Grader& grader, const Json& example) {
  Json base = {{"prompt", ""}, {"answer", "1"}, {"params", Json::object()}};
  base.update(example);
  const auto with = [&base](const Json& changes) {
    Json question = base;
    question.update(changes);
    return question;
  };
  std::vector<Finding> findings;
  for (const auto& [name, completion] : AdversarialCompletions()) {
    const Json one = {{"completion", completion}};
    const Json changes =
        grader.group_aware() ? Json{{"group", Json::array({one, {{"completion", "1"}}})}} : one;
    findings.push_back(Examine(grader, name, with(changes), Json::object()));
  }
  const Json bad_rows = {{"row without answer", {{"answer", ""}}},
                         {"row without params", {{"params", Json::object()}}},
                         {"row with a huge answer", {{"answer", std::string(kHuge, '9')}}}};
  for (const auto& [name, changes] : bad_rows.items()) {
    Json question = with(changes);
    question["completion"] = "1";
    findings.push_back(Examine(grader, name, question, Json::object()));
  }
  return findings;
}

}  // namespace tramontane
