// What tells one built-in grader from another: how an answer is judged. A rule sees the answer part
// of a completion (the thoughts are gone), the gold answer and the row's params. Pure, thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

class Algebra;

struct Judgement {
  bool correct = false;
  double share = 0;       // of what was asked for that was done, in [0, 1]
  std::string extracted;  // the answer as it was found
  std::string feedback;   // one line for a person
};

// Whether nobody waits for the judgement any more; empty: somebody always does. Cheap, thread-safe.
using StopCheck = std::function<bool()>;

struct AnswerRule {
  std::string name;
  std::string version;  // raised when the rule judges any pair differently than before
  bool boxed = false;   // the answer belongs into a \boxed{}
  // InvalidArgument: the row is at fault, not the answer.
  std::function<absl::StatusOr<Judgement>(const std::string& text, const std::string& gold,
                                          const Json& params)>
      judge;
  std::function<absl::Status(const std::string& gold, const Json& params)> check_row;
  Json params_schema = Json::object();  // JSON Schema; {}: anything
  bool pure = true;                     // the same question always gets the same judgement
  // Of a rule whose work takes long, in place of `judge`: Cancelled soon after `stop` is true.
  // Unavailable: the sandbox is at fault.
  std::function<absl::StatusOr<Judgement>(const std::string& text, const std::string& gold,
                                          const Json& params, const StopCheck& stop)>
      judge_long = nullptr;
  std::vector<std::string> notes = {};  // for people: what it works with, and without

  // By whichever of the two the rule has.
  absl::StatusOr<Judgement> Judge(const std::string& text, const std::string& gold,
                                  const Json& params, const StopCheck& stop = nullptr) const {
    return judge_long ? judge_long(text, gold, params, stop) : judge(text, gold, params);
  }
};

// `algebra` is asked where values cannot tell; without one the answer is wrong then.
AnswerRule MathRule(std::shared_ptr<Algebra> algebra = nullptr);
AnswerRule ExactRule();
AnswerRule ChoiceRule();
AnswerRule RegexRule();
AnswerRule JsonSchemaRule();

}  // namespace tramontane
