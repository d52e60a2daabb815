#include "verifier/grader.h"

#include <string_view>
#include <utility>

#include "common/status.h"
#include "verifier/math_answer.h"
#include "verifier/reward_table.h"
#include "verifier/table_grader.h"

namespace tramontane {
namespace {

std::string Trimmed(const std::string& text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) return "";
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

AnswerRule MathRule() {
  return {"math", "1.0.0",
          [](const std::string& gold, const std::string& answer) {
            return SameMathAnswer(gold, answer);
          },
          [](const std::string& gold) { return CheckMathGold(gold); }};
}

// Byte for byte, blanks at both ends aside.
AnswerRule ExactRule() {
  return {"exact", "1.0.0",
          [](const std::string& gold, const std::string& answer) {
            return Trimmed(gold) == Trimmed(answer);
          },
          [](const std::string& gold) {
            return Trimmed(gold).empty() ? absl::InvalidArgumentError("the gold answer is empty")
                                         : absl::OkStatus();
          }};
}

}  // namespace

std::vector<std::string> BuiltinGraderNames() { return {"exact", "math"}; }

absl::StatusOr<std::unique_ptr<Grader>> MakeBuiltinGrader(const std::string& name,
                                                          const RewardSection& reward) {
  RETURN_IF_ERROR(ValidateReward(reward));
  if (name == "math") return std::make_unique<TableGrader>(MathRule(), reward);
  if (name == "exact") return std::make_unique<TableGrader>(ExactRule(), reward);
  std::string known;
  for (const std::string& n : BuiltinGraderNames()) known += (known.empty() ? "" : ", ") + n;
  return absl::NotFoundError("no built-in verifier is named \"" + name + "\"; there are: " + known);
}

}  // namespace tramontane
