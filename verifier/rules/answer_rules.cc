// Rules that compare an answer with the gold answer: math, exact, choice, regex.
#include <re2/re2.h>

#include <cctype>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/status.h"
#include "verifier/algebra/algebra.h"
#include "verifier/format_gate.h"
#include "verifier/math/answer.h"
#include "verifier/rules/params.h"
#include "verifier/rules/patterns.h"
#include "verifier/rules/rule.h"
#include "verifier/rules/text.h"

namespace tramontane {
namespace {

constexpr size_t kMaxPatternBytes = 4096;

Judgement Verdictly(bool correct, std::string extracted) {
  return {correct, correct ? 1.0 : 0.0, std::move(extracted),
          correct ? "correct" : "differs from the gold answer"};
}

absl::Status NotEmpty(const std::string& gold) {
  return Trimmed(gold).empty() ? absl::InvalidArgumentError("the gold answer is empty")
                               : absl::OkStatus();
}

std::string Found(const std::string& text) {
  return LastBoxed(text).value_or(std::string(Trimmed(text)));
}

constexpr double kMinAlgebraS = 0.05, kMostAlgebraS = 10, kAlgebraTimeoutS = 2;

absl::StatusOr<math::AnswerOptions> MathOptions(const Json& params,
                                                const std::shared_ptr<Algebra>& algebra) {
  math::AnswerOptions options;
  ASSIGN_OR_RETURN(const std::string form, ChoiceParam(params, "form", {"value", "literal"}));
  options.literal = form == "literal";
  ASSIGN_OR_RETURN(const double decimals, NumberParam(params, "decimals", options.decimals));
  if (!(decimals >= 0 && decimals <= 100)) {
    return absl::InvalidArgumentError("params.decimals: must be between 0 and 100");
  }
  options.decimals = static_cast<int>(decimals);
  ASSIGN_OR_RETURN(const std::string asks,
                   ChoiceParam(params, "algebra", {"undecided", "different", "off"}));
  ASSIGN_OR_RETURN(const double timeout_s,
                   NumberParam(params, "algebra_timeout_s", kAlgebraTimeoutS));
  if (!(timeout_s >= kMinAlgebraS && timeout_s <= kMostAlgebraS)) {
    return absl::InvalidArgumentError("params.algebra_timeout_s: must be between 0.05 and 10");
  }
  options.doubts_difference = asks == "different";
  if (algebra && asks != "off") {
    options.opinion = [algebra, timeout_s](const std::string& a, const std::string& b) {
      return algebra->Same(a, b, timeout_s);
    };
  }
  return options;
}

struct ExactOptions {
  bool ignore_case = false, ignore_space = false;
};

absl::StatusOr<ExactOptions> ReadExactOptions(const Json& params) {
  ExactOptions options;
  ASSIGN_OR_RETURN(options.ignore_case, FlagParam(params, "ignore_case", false));
  ASSIGN_OR_RETURN(options.ignore_space, FlagParam(params, "ignore_space", false));
  return options;
}

std::string Normal(std::string_view text, const ExactOptions& options) {
  std::string out = options.ignore_case ? Lowered(Trimmed(text)) : std::string(Trimmed(text));
  if (options.ignore_space) {
    std::erase_if(out, [](unsigned char c) { return std::isspace(c) != 0; });
  }
  return out;
}

// "B", "(b)", "**B**.", "B) Paris", "\text{B}" → 'B'; 0 when it begins with no lone letter.
char ChoiceLetter(std::string_view text) {
  static const re2::RE2 kLetter(
      R"(^\s*(?:\\(?:text|mathrm|textbf|mathbf)\s*\{)?[\s(\[*{]*([A-Za-z])(?:[\s)\]*}.:,]|$))");
  std::string letter;
  if (!re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), kLetter, &letter))
    return 0;
  return static_cast<char>(std::toupper(static_cast<unsigned char>(letter[0])));
}

// The letter of a sentence: the last "answer is (B)", else the last lone capital.
char ChoiceInProse(std::string_view text) {
  static const re2::RE2 kAnswer(R"((?i:answer|choice|option)(?i:\s+is)?\s*:?\s*[(\[*]*([A-Z])\b)");
  static const re2::RE2 kLone(R"((?:^|[\s(*\[])([A-Z])(?:[)\]*.:,]|\s|$))");
  char found = 0;
  for (const re2::RE2* pattern : {&kAnswer, &kLone}) {
    re2::StringPiece rest(text.data(), text.size());
    std::string letter;
    while (re2::RE2::FindAndConsume(&rest, *pattern, &letter)) found = letter[0];
    if (found != 0) return found;
  }
  return 0;
}

absl::StatusOr<Judgement> JudgeChoice(const std::string& text, const std::string& gold,
                                      const Json& params) {
  ASSIGN_OR_RETURN(const std::vector<std::string> choices, TextsParam(params, "choices"));
  const char wanted = ChoiceLetter(gold);
  const std::optional<std::string> boxed = LastBoxed(text);
  const std::string found = boxed.value_or(std::string(Trimmed(text)));
  char letter = ChoiceLetter(found);
  // The text of a choice stands for its letter.
  for (size_t i = 0; i < choices.size() && i < 26; ++i) {
    if (Lowered(Trimmed(choices[i])) == Lowered(Trimmed(found))) {
      letter = static_cast<char>('A' + i);
    }
  }
  if (letter == 0 && !boxed) letter = ChoiceInProse(text);
  return Verdictly(letter != 0 && letter == wanted, letter != 0 ? std::string(1, letter) : found);
}

absl::Status CheckChoice(const std::string& gold, const Json& params) {
  ASSIGN_OR_RETURN(const std::vector<std::string> choices, TextsParam(params, "choices"));
  const char letter = ChoiceLetter(gold);
  if (letter == 0)
    return absl::InvalidArgumentError("the gold answer is not the letter of a choice");
  if (!choices.empty() && static_cast<size_t>(letter - 'A') >= choices.size()) {
    return absl::InvalidArgumentError("the gold answer " + std::string(1, letter) +
                                      " is not one of " + std::to_string(choices.size()) +
                                      " choices");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<re2::RE2>> Pattern(const std::string& gold, const Json& params) {
  RETURN_IF_ERROR(NotEmpty(gold));
  if (gold.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError("the gold answer is a pattern of more than 4096 bytes");
  }
  ASSIGN_OR_RETURN(const bool ignore_case, FlagParam(params, "ignore_case", false));
  auto pattern = std::make_unique<re2::RE2>(gold, PatternOptions(ignore_case));
  if (!pattern->ok()) {
    return absl::InvalidArgumentError("the gold answer is no RE2 pattern: " + pattern->error());
  }
  return pattern;
}

absl::StatusOr<Judgement> JudgeRegex(const std::string& text, const std::string& gold,
                                     const Json& params) {
  ASSIGN_OR_RETURN(const std::unique_ptr<re2::RE2> pattern, Pattern(gold, params));
  ASSIGN_OR_RETURN(const std::string match, ChoiceParam(params, "match", {"full", "search"}));
  const std::string found = Found(text);
  const bool correct = match == "full" ? re2::RE2::FullMatch(found, *pattern)
                                       : re2::RE2::PartialMatch(found, *pattern);
  Judgement judgement = Verdictly(correct, found);
  if (!correct) judgement.feedback = "does not match the pattern";
  return judgement;
}

}  // namespace

AnswerRule MathRule(std::shared_ptr<Algebra> algebra) {
  AnswerRule rule;
  rule.name = "math";
  rule.version = "2.1.0";
  rule.boxed = true;
  rule.pure = algebra == nullptr;  // an opinion may come too late
  rule.notes = {algebra ? "computer algebra: SymPy " + algebra->version()
                        : "computer algebra: none"};
  rule.judge = [algebra](const std::string& text, const std::string& gold,
                         const Json& params) -> absl::StatusOr<Judgement> {
    ASSIGN_OR_RETURN(const math::AnswerOptions options, MathOptions(params, algebra));
    return Verdictly(math::SameMathAnswer(gold, text, options), math::FoundAnswer(text));
  };
  rule.check_row = [](const std::string& gold, const Json& params) -> absl::Status {
    RETURN_IF_ERROR(MathOptions(params, nullptr).status());
    return math::CheckMathGold(gold);
  };
  rule.params_schema =
      ParamsSchema({{"form", OneOfSchema({"value", "literal"})},
                    {"decimals", NumberSchema(0, 100, math::AnswerOptions{}.decimals)},
                    {"algebra", OneOfSchema({"undecided", "different", "off"})},
                    {"algebra_timeout_s",
                     NumberSchema(kMinAlgebraS, kMostAlgebraS, kAlgebraTimeoutS)}});
  return rule;
}

AnswerRule ExactRule() {
  return {"exact",
          "1.1.0",
          /*boxed=*/true,
          [](const std::string& text, const std::string& gold,
             const Json& params) -> absl::StatusOr<Judgement> {
            ASSIGN_OR_RETURN(const ExactOptions options, ReadExactOptions(params));
            std::string found = Found(text);
            const bool same = Normal(gold, options) == Normal(found, options);
            return Verdictly(same, std::move(found));
          },
          [](const std::string& gold, const Json& params) -> absl::Status {
            RETURN_IF_ERROR(ReadExactOptions(params).status());
            return NotEmpty(gold);
          },
          ParamsSchema({{"ignore_case", FlagSchema()}, {"ignore_space", FlagSchema()}})};
}

AnswerRule ChoiceRule() {
  return {"choice",    "1.0.0",     /*boxed=*/true,
          JudgeChoice, CheckChoice, ParamsSchema({{"choices", TextsSchema()}})};
}

AnswerRule RegexRule() {
  return {
      "regex",
      "1.0.0",
      /*boxed=*/false,
      JudgeRegex,
      [](const std::string& gold, const Json& params) -> absl::Status {
        RETURN_IF_ERROR(ChoiceParam(params, "match", {"full", "search"}).status());
        return Pattern(gold, params).status();
      },
      ParamsSchema({{"match", OneOfSchema({"full", "search"})}, {"ignore_case", FlagSchema()}})};
}

}  // namespace tramontane
