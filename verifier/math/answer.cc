#include "verifier/math/answer.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "verifier/ascii.h"
#include "verifier/math/compare.h"
#include "verifier/math/extract.h"
#include "verifier/math/parser.h"
#include "verifier/math/prepare.h"
#include "verifier/math/probe.h"

namespace tramontane::math {
namespace {

using std::string_view;

constexpr size_t kMaxFormulaBytes = 1 << 15;  // longer ones are compared as text
constexpr size_t kMaxDigits = 20000;          // of one number that is computed with

// A number as most answers are: an optional sign, digits, perhaps a point and more digits.
struct PlainNumber {
  bool negative = false;
  string_view whole, fraction;  // without zeros in front and behind, respectively
  bool decimal = false;
};

std::optional<PlainNumber> ReadPlain(string_view text) {
  PlainNumber number;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    number.negative = text.front() == '-';
    text.remove_prefix(1);
  }
  const size_t point = text.find('.');
  number.decimal = point != text.npos;
  number.whole = text.substr(0, point);
  if (number.decimal) number.fraction = text.substr(point + 1);
  if (number.whole.empty() || (number.decimal && number.fraction.empty())) return std::nullopt;
  if (!std::all_of(number.whole.begin(), number.whole.end(), IsDigit) ||
      !std::all_of(number.fraction.begin(), number.fraction.end(), IsDigit)) {
    return std::nullopt;
  }
  number.whole.remove_prefix(std::min(number.whole.find_first_not_of('0'), number.whole.size()));
  while (number.fraction.ends_with('0')) number.fraction.remove_suffix(1);
  if (number.whole.empty() && number.fraction.empty()) number.negative = false;
  return number;
}

// Decides two plain numbers without arithmetic; absent when rounding has to.
std::optional<bool> SamePlain(const PlainNumber& a, const PlainNumber& b) {
  if (a.negative == b.negative && a.whole == b.whole && a.fraction == b.fraction) return true;
  if (!a.decimal && !b.decimal) return false;
  if (a.whole.size() > kMaxDigits || b.whole.size() > kMaxDigits) return false;
  if (a.fraction.size() > kMaxDigits || b.fraction.size() > kMaxDigits) return false;
  return std::nullopt;
}

// 1,234,567 and 1 234 567 as one number; "3 1/2" as a mixed one.
std::string WithReadableNumbers(std::string text) {
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const size_t separator = text.find_first_not_of("0123456789", sign);
  if (separator == text.npos || separator == sign) return text;
  const char c = text[separator];
  if (c == ',' || c == ' ') {
    bool grouped = separator - sign <= 3;
    size_t i = separator;
    while (grouped && i < text.size() && text[i] == c) {
      grouped = i + 3 < text.size() && IsDigit(text[i + 1]) && IsDigit(text[i + 2]) &&
                IsDigit(text[i + 3]) && (i + 4 == text.size() || !IsDigit(text[i + 4]));
      i += 4;
    }
    const bool fraction_follows = i < text.size() && text[i] == '.' &&
                                  text.find_first_not_of("0123456789", i + 1) == text.npos;
    if (grouped && (i >= text.size() || fraction_follows)) {
      std::erase(text, c);
      return text;
    }
  }
  if (c == ' ') {
    const size_t slash = text.find('/', separator);
    if (slash == text.npos || slash == separator + 1 || slash + 1 == text.size() ||
        text.find_first_not_of("0123456789", separator + 1) != slash ||
        text.find_first_not_of("0123456789", slash + 1) != text.npos) {
      return text;
    }
    return text.substr(0, separator) + "\\frac{" +
           text.substr(separator + 1, slash - separator - 1) + "}{" + text.substr(slash + 1) + "}";
  }
  return text;
}

// Behind the last = of a chain that could not be read as a whole.
string_view LastSide(string_view text) {
  if (text.find_first_of(",;") != text.npos) return text;
  const size_t last = text.rfind('=');
  if (last == text.npos || last == 0 || text.find('=') == last) return text;
  return text.substr(last + 1);
}

ExprPtr ParseFormula(string_view text) {
  const std::optional<std::vector<Token>> tokens = Tokenize(text);
  if (!tokens) return nullptr;
  for (const Token& token : *tokens) {
    if (token.type == TokenType::kNumber && token.text.size() > kMaxDigits) return nullptr;
  }
  return Parse(*tokens);
}

std::string WithoutBlanks(string_view text) {
  std::string out;
  out.reserve(text.size());
  bool blank = false;
  for (char c : text) {
    if (IsBlank(c) || c == '$') {
      blank = true;
      continue;
    }
    if (blank && !out.empty() && IsDigit(out.back()) && IsDigit(c)) out += ' ';
    out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    blank = false;
  }
  return out;
}

struct Reading {
  ExprPtr tree;      // null when there is no mathematics in it
  std::string text;  // without blanks but between digits, in lower case
};

Reading ReadFormula(string_view text) {
  Reading reading;
  if (text.size() > kMaxFormulaBytes) {
    reading.text = WithoutBlanks(text);
    return reading;
  }
  const std::string prepared = WithReadableNumbers(Prepared(JoinedBoxes(text)));
  reading.text = WithoutBlanks(prepared);
  reading.tree = ParseFormula(prepared);
  if (!reading.tree) {
    const string_view last = LastSide(prepared);
    if (last.size() != prepared.size()) reading.tree = ParseFormula(last);
  }
  return reading;
}

Reading Read(string_view text) {
  text = Trimmed(text);
  const bool one_box =
      text.starts_with("\\boxed{") && text.ends_with('}') && text.rfind("\\boxed") == 0;
  if (one_box || !IsProse(text)) return ReadFormula(text);
  std::optional<Reading> first;
  for (const std::string& candidate : AnswerCandidates(text)) {
    Reading reading = ReadFormula(candidate);
    if (reading.tree) {
      if (first) reading.text = std::move(first->text);
      return reading;
    }
    if (!first) first = std::move(reading);
  }
  return first ? *std::move(first) : ReadFormula(text);
}

bool IsLiteral(const Expr& e) {
  switch (e.kind) {
    case Kind::kNumber:
      return true;
    case Kind::kPercent:
    case Kind::kSet:
    case Kind::kTuple:
    case Kind::kInterval:
      return std::all_of(e.args.begin(), e.args.end(),
                         [](const ExprPtr& arg) { return IsLiteral(*arg); });
    default:
      return false;
  }
}

ExprPtr Ordered(const ExprPtr& e) {
  return e->kind == Kind::kSet ? Make(Kind::kTuple, e->args) : e;
}

ExprPtr WithoutName(const ExprPtr& e) {
  return e->kind == Kind::kRelation && e->name == "=" && IsOnlySymbols(*e->args[0]) ? e->args[1]
                                                                                    : e;
}

bool SameTrees(ExprPtr gold, ExprPtr answer, const AnswerOptions& options) {
  if (options.literal) {
    gold = Ordered(WithoutName(gold));
    answer = Ordered(WithoutName(answer));
    if (IsLiteral(*gold) && !IsLiteral(*answer)) return false;
  }
  Budget budget;
  return SameAnswer(gold, answer, options, budget);
}

bool BracesBalance(string_view text) {
  int64_t depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth < 0) {
      return false;
    }
  }
  return depth == 0;
}

}  // namespace

bool SameMathAnswer(string_view gold, string_view answer, const AnswerOptions& options) {
  gold = Trimmed(gold);
  answer = Trimmed(answer);
  if (gold.empty() || answer.empty() || gold.size() > kMaxAnswerBytes ||
      answer.size() > kMaxAnswerBytes) {
    return false;
  }
  if (const std::optional<PlainNumber> a = ReadPlain(gold)) {
    if (const std::optional<PlainNumber> b = ReadPlain(answer)) {
      if (const std::optional<bool> same = SamePlain(*a, *b)) return *same;
    }
  }
  const Reading a = Read(gold), b = Read(answer);
  if (!a.text.empty() && a.text == b.text) return true;
  return a.tree && b.tree && SameTrees(a.tree, b.tree, options);
}

std::string FoundAnswer(string_view text) {
  text = Trimmed(text);
  if (text.find("\\boxed") != text.npos) return JoinedBoxes(text);
  if (!IsProse(text)) return std::string(text);
  const std::vector<std::string> candidates = AnswerCandidates(text);
  return candidates.empty() ? std::string(text) : candidates[0];
}

absl::Status CheckMathGold(string_view gold) {
  gold = Trimmed(gold);
  if (gold.size() > kMaxAnswerBytes) {
    return absl::InvalidArgumentError("the gold answer is longer than 1 MiB");
  }
  if (!BracesBalance(gold))
    return absl::InvalidArgumentError("the gold answer has unbalanced braces");
  if (ReadPlain(gold)) return absl::OkStatus();
  const Reading reading = Read(gold);
  if (reading.text.empty()) return absl::InvalidArgumentError("the gold answer is empty");
  const bool digits = reading.text.find_first_not_of("0123456789.,/%+-* ") == reading.text.npos;
  if (!digits) return absl::OkStatus();
  Budget budget;
  if (reading.tree && (reading.tree->kind == Kind::kSet || RealValue(*reading.tree, budget))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("the gold answer is made of digits but is not a number");
}

}  // namespace tramontane::math
