#include "verifier/rules/ifeval.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "verifier/rules/instructions.h"
#include "verifier/rules/params.h"
#include "verifier/rules/text.h"

namespace tramontane {
namespace {

constexpr size_t kMaxInstructions = 64;

struct Task {
  std::vector<std::string> ids;
  std::vector<Json> arguments;
  bool loose = false, fraction = false;
};

absl::StatusOr<Task> ReadTask(const Json& params) {
  Task task;
  ASSIGN_OR_RETURN(task.ids, TextsParam(params, "instruction_id_list"));
  if (task.ids.empty() || task.ids.size() > kMaxInstructions) {
    return absl::InvalidArgumentError("params.instruction_id_list: must name 1 to 64 instructions");
  }
  const Json kwargs = params.value("kwargs", Json::array());
  if (!kwargs.is_array() || (!kwargs.empty() && kwargs.size() != task.ids.size())) {
    return absl::InvalidArgumentError(
        "params.kwargs: must be a list with one mapping for each of " +
        std::to_string(task.ids.size()) + " instructions");
  }
  for (size_t i = 0; i < task.ids.size(); ++i) {
    task.arguments.push_back(kwargs.empty() || kwargs[i].is_null() ? Json::object() : kwargs[i]);
    if (!task.arguments.back().is_object()) {
      return absl::InvalidArgumentError("params.kwargs[" + std::to_string(i) +
                                        "]: must be a mapping");
    }
  }
  ASSIGN_OR_RETURN(const std::string mode, ChoiceParam(params, "mode", {"strict", "loose"}));
  ASSIGN_OR_RETURN(const std::string require, ChoiceParam(params, "require", {"all", "fraction"}));
  task.loose = mode == "loose";
  task.fraction = require == "fraction";
  return task;
}

// The text, and for the loose mode without its first line, its last, both; each also without *.
std::vector<std::string> Variants(const std::string& text, bool loose) {
  if (!loose) return {text};
  const auto without_first = [](const std::string& t) {
    const size_t end = t.find('\n');
    return end == t.npos ? std::string() : std::string(Trimmed(t.substr(end + 1)));
  };
  const auto without_last = [](const std::string& t) {
    const size_t start = t.rfind('\n');
    return start == t.npos ? std::string() : std::string(Trimmed(t.substr(0, start)));
  };
  std::vector<std::string> all = {text, without_first(text), without_last(text),
                                  without_last(without_first(text))};
  for (size_t i = 0; i < 4; ++i) {
    std::string plain = all[i];
    std::erase(plain, '*');
    all.push_back(std::move(plain));
  }
  return all;
}

absl::StatusOr<Judgement> JudgeInstructions(const std::string& text, const Json& params,
                                const LanguageDetector& detector) {
  ASSIGN_OR_RETURN(const Task task, ReadTask(params));
  const std::vector<std::string> variants = Variants(text, task.loose);
  Judgement judgement;
  size_t followed = 0;
  std::string broken;
  for (size_t i = 0; i < task.ids.size(); ++i) {
    bool good = false;
    for (const std::string& variant : variants) {
      // An empty answer follows nothing, not even "no commas".
      absl::StatusOr<bool> one = Follows(variant, task.ids[i], task.arguments[i], detector);
      if (!one.ok()) {
        return Annotate(one.status(), "params.instruction_id_list[" + std::to_string(i) + "]");
      }
      good = good || (*one && !Trimmed(variant).empty());
    }
    followed += good;
    if (!good) broken += (broken.empty() ? "" : ", ") + task.ids[i];
  }
  judgement.share = static_cast<double>(followed) / static_cast<double>(task.ids.size());
  judgement.correct = followed == task.ids.size();
  if (!task.fraction) judgement.share = judgement.correct ? 1 : 0;
  judgement.feedback = broken.empty() ? "every instruction is followed" : "not followed: " + broken;
  judgement.extracted = std::string(Trimmed(text));
  return judgement;
}

}  // namespace

AnswerRule IfevalRule(std::shared_ptr<const LanguageDetector> detector) {
  return {"ifeval",
          "1.0.0",
          /*boxed=*/false,
          [detector](const std::string& text, const std::string&, const Json& params) {
            return JudgeInstructions(text, params, *detector);
          },
          [detector](const std::string&, const Json& params) {
            return JudgeInstructions("text", params, *detector).status();
          },
          ParamsSchema({{"instruction_id_list", TextsSchema()},
                        {"kwargs", {{"type", "array"}, {"items", {{"type", {"object", "null"}}}}}},
                        {"mode", OneOfSchema({"strict", "loose"})},
                        {"require", OneOfSchema({"all", "fraction"})}})};
}

}  // namespace tramontane
