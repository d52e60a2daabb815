#include "verifier/math_answer.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "verifier/latex.h"
#include "verifier/numeric.h"

namespace tramontane {
namespace {

constexpr int kMaxListDepth = 8;

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

bool IsAlnum(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// Text without the blanks that separate nothing; words of letters only in lower case.
std::string TextKey(std::string_view text) {
  std::string key;
  key.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') {
      const bool separates = !key.empty() && i + 1 < text.size() && IsAlnum(key.back()) &&
                             IsAlnum(text[i + 1]);
      if (!separates) continue;
    }
    key += text[i];
  }
  const bool word = key.size() > 1 && std::all_of(key.begin(), key.end(), [](unsigned char c) {
                      return std::isalpha(c) != 0;
                    });
  if (word) {
    std::transform(key.begin(), key.end(), key.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  }
  return key;
}

// "x = 5" → "5", for a name of one letter.
std::string_view WithoutAssignment(std::string_view text) {
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text.front())) == 0) return text;
  std::string_view rest = Trim(text.substr(1));
  if (!rest.starts_with('=')) return text;
  rest = Trim(rest.substr(1));
  return rest.find('=') == rest.npos && !rest.empty() ? rest : text;
}

// A bracketed or bare sequence. `kind` is the pair of brackets, empty when there was none.
struct List {
  std::string kind;
  std::vector<std::string_view> elements;
};

// Length of an opening bracket at the front, 0 when there is none. \{ counts as one.
size_t Opens(std::string_view text) {
  if (text.starts_with("\\{")) return 2;
  return text.starts_with('(') || text.starts_with('[') || text.starts_with('{') ? 1 : 0;
}
size_t Closes(std::string_view text) {
  if (text.starts_with("\\}")) return 2;
  return text.starts_with(')') || text.starts_with(']') || text.starts_with('}') ? 1 : 0;
}

// Cuts at commas outside brackets. Absent when brackets do not nest.
std::optional<std::vector<std::string_view>> SplitTop(std::string_view text) {
  std::vector<std::string_view> parts;
  int64_t depth = 0;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    if (const size_t n = Opens(text.substr(i))) {
      ++depth;
      i += n;
    } else if (const size_t m = Closes(text.substr(i))) {
      if (--depth < 0) return std::nullopt;
      i += m;
    } else {
      if (text[i] == ',' && depth == 0) {
        parts.push_back(Trim(text.substr(start, i - start)));
        start = i + 1;
      }
      ++i;
    }
  }
  if (depth != 0) return std::nullopt;
  parts.push_back(Trim(text.substr(start)));
  return parts;
}

// The text inside one pair of brackets that encloses all of it.
std::optional<std::pair<std::string, std::string_view>> Unwrap(std::string_view text) {
  const size_t open = Opens(text);
  if (open == 0 || text.size() < 2) return std::nullopt;
  const size_t close = text.ends_with("\\}") ? 2 : Closes(text.substr(text.size() - 1));
  if (close == 0 || text.size() < open + close) return std::nullopt;
  const std::string_view inside = text.substr(open, text.size() - open - close);
  if (!SplitTop(inside)) return std::nullopt;  // "(1) + (2)": not one pair
  std::string kind(text.substr(0, open));
  kind += text.substr(text.size() - close);
  return std::pair(std::move(kind), inside);
}

std::optional<List> ReadList(std::string_view text) {
  List list;
  if (auto unwrapped = Unwrap(text)) {
    list.kind = unwrapped->first;
    text = unwrapped->second;
  }
  auto parts = SplitTop(text);
  if (!parts || parts->size() < 2) return std::nullopt;
  list.elements = std::move(*parts);
  return list;
}

bool SameBrackets(const std::string& a, const std::string& b) {
  const auto plain = [](const std::string& kind) {
    return kind.empty() || kind == "()" || kind == "{}";
  };
  return a == b || (plain(a) && plain(b));
}

bool Same(std::string_view gold, std::string_view answer, int depth);

bool SameLists(std::string_view gold, std::string_view answer, int depth) {
  const std::optional<List> a = ReadList(gold);
  if (!a) return false;
  const std::optional<List> b = ReadList(answer);
  if (!b || a->elements.size() != b->elements.size() || !SameBrackets(a->kind, b->kind)) {
    return false;
  }
  for (size_t i = 0; i < a->elements.size(); ++i) {
    if (a->elements[i].empty() || !Same(a->elements[i], b->elements[i], depth - 1)) return false;
  }
  return true;
}

// Round brackets or LaTeX braces around one thing mean nothing.
std::string_view WithoutGrouping(std::string_view text) {
  for (int i = 0; i < kMaxListDepth; ++i) {
    const auto unwrapped = Unwrap(text);
    if (!unwrapped || (unwrapped->first != "()" && unwrapped->first != "{}")) break;
    text = Trim(unwrapped->second);
  }
  return text;
}

bool Same(std::string_view gold, std::string_view answer, int depth) {
  gold = Trim(gold);
  answer = Trim(answer);
  if (gold.empty() || answer.empty()) return false;
  const std::string gold_key = TextKey(gold), answer_key = TextKey(answer);
  if (gold_key == answer_key) return true;
  // "100,200" is a number to some and a list to others: any reading both sides share counts.
  if (depth > 0 && SameLists(gold, answer, depth)) return true;
  const std::string_view bare_gold = WithoutGrouping(gold);
  const std::string_view bare_answer = WithoutGrouping(answer);
  const std::optional<Quantity> a = ParseQuantity(bare_gold);
  if (a) {
    const std::optional<Quantity> b = ParseQuantity(bare_answer);
    return b && SameValue(a->value, b->value) &&
           (a->unit == b->unit || a->unit.empty() || b->unit.empty());
  }
  if (bare_gold.size() == gold.size() && bare_answer.size() == answer.size()) return false;
  return TextKey(bare_gold) == TextKey(bare_answer);
}

std::optional<std::string> Normalise(std::string_view text) {
  std::optional<std::string> clean = CleanMath(text);
  if (!clean) return std::nullopt;
  return std::string(WithoutAssignment(Trim(*clean)));
}

}  // namespace

bool SameMathAnswer(std::string_view gold, std::string_view answer) {
  const std::optional<std::string> a = Normalise(gold), b = Normalise(answer);
  return a && b && Same(*a, *b, kMaxListDepth);
}

absl::Status CheckMathGold(std::string_view gold) {
  if (gold.size() > kMaxNumberBytes) {
    return absl::InvalidArgumentError("the gold answer is longer than 1 MiB");
  }
  const std::optional<std::string> clean = Normalise(gold);
  if (!clean) return absl::InvalidArgumentError("the gold answer has unbalanced braces");
  if (clean->empty()) return absl::InvalidArgumentError("the gold answer is empty");
  const bool numeric = clean->find_first_not_of("0123456789.,/%+ ") == clean->npos;
  if (!numeric || ParseQuantity(*clean)) return absl::OkStatus();
  if (const std::optional<List> list = ReadList(*clean)) {
    if (std::all_of(list->elements.begin(), list->elements.end(),
                    [](std::string_view e) { return ParseQuantity(e).has_value(); })) {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError("the gold answer is made of digits but is not a number");
}

}  // namespace tramontane
