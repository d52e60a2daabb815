#include "verifier/math/extract.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "verifier/ascii.h"
#include "verifier/math/prepare.h"

namespace tramontane::math {
namespace {

using std::string_view;

constexpr size_t kMaxProseBytes = 1 << 16;  // the end of a text; answers stand there
constexpr size_t kNearAnchor = 50;          // characters between "answer" and the answer
constexpr size_t kMaxJoined = 6;            // formulas joined by "and"
constexpr size_t kMaxCandidates = 32;
constexpr int kProseWords = 4;  // of three letters and more

enum Priority { kHoped = 0, kFinal = 50, kColon = 100, kAnswer = 200, kAnywhere = 300 };

struct Span {
  size_t start = 0, end = 0;
  std::string math;
  int priority = kAnywhere;
};

size_t SkipBlanks(string_view text, size_t at) {
  while (at < text.size() && IsBlank(text[at])) ++at;
  return at;
}

// The end of a formula that starts at `at` with its delimiter, and its content; 0 when there is
// none.
size_t FormulaAt(string_view text, size_t at, string_view& content) {
  struct Delimiters {
    string_view open, close;
    bool multiline;
  };
  static constexpr Delimiters kAll[] = {
      {"$$", "$$", true}, {"\\[", "\\]", true}, {"$", "$", false}, {"\\(", "\\)", false}};
  for (const auto& [open, close, multiline] : kAll) {
    if (!text.substr(at).starts_with(open)) continue;
    if (at > 0 && (text[at - 1] == '\\' || (open == "$" && IsDigit(text[at - 1])))) return 0;
    size_t end = text.find(close, at + open.size());
    while (end != text.npos && close.front() == '$' && text[end - 1] == '\\') {
      end = text.find(close, end + 1);
    }
    if (end == text.npos || end == at + open.size()) continue;
    content = text.substr(at + open.size(), end - at - open.size());
    if (!multiline && content.find('\n') != content.npos) return 0;
    return end + close.size();
  }
  return 0;
}

// "%", "percent" and the like behind a formula.
size_t PercentAt(string_view text, size_t at) {
  at = SkipBlanks(text, at);
  for (string_view word : {"\\%", "%", "percentage", "Percentage", "percent", "Percent", "pct"}) {
    if (text.substr(at).starts_with(word)) return at + word.size();
  }
  return 0;
}

// Behind ", ", " and " or " or "; 0 when what follows is something else.
size_t ConnectorAt(string_view text, size_t at) {
  at = SkipBlanks(text, at);
  for (string_view word : {",and", ",or", ", and", ", or", "and", "or", ","}) {
    if (text.substr(at).starts_with(word)) return SkipBlanks(text, at + word.size());
  }
  return 0;
}

std::vector<Span> Formulas(string_view text) {
  std::vector<Span> spans;
  for (size_t i = text.find_first_of("$\\"); i != text.npos; i = text.find_first_of("$\\", i + 1)) {
    string_view content;
    size_t end = FormulaAt(text, i, content);
    if (end == 0) continue;
    Span span{i, end, std::string(content)};
    for (size_t joined = 1; joined < kMaxJoined; ++joined) {
      const size_t next = ConnectorAt(text, span.end);
      if (next == 0 || next >= text.size()) break;
      const size_t next_end = FormulaAt(text, next, content);
      if (next_end == 0) break;
      span.math += " , " + std::string(content);
      span.end = next_end;
    }
    if (const size_t percent = PercentAt(text, span.end)) {
      span.math += "%";
      span.end = percent;
    }
    if (span.math.find("\\boxed") != span.math.npos || span.math.find("\\fbox") != span.math.npos) {
      span.priority = kFinal;
    }
    i = span.end - 1;
    spans.push_back(std::move(span));
  }
  return spans;
}

// All boxes of the text, taken together.
void AddBoxes(string_view text, std::vector<Span>& spans) {
  const size_t last = text.rfind("\\boxed");
  if (last == text.npos) return;
  Span span{last, last + 1, JoinedBoxes(text)};
  const size_t end = text.rfind('}');
  if (end != text.npos && end > last) span.end = end + 1;
  if (PercentAt(text, span.end) != 0) span.math += "%";
  span.priority = kFinal;
  spans.push_back(std::move(span));
}

// Numbers and sums of numbers outside of formulas.
void AddPlain(string_view text, std::vector<Span>& spans) {
  static const re2::RE2 kExpression(
      R"((?:^|[\s=])(?:\*\*)?(-?\(?-?\d[\d.\s+\-*×/^()÷]*[+\-*×/^()÷][\d.\s+\-*×/^()÷]+\)?))"
      R"((?:\*\*)?(?:[.,:\s)$]|$))");
  static const re2::RE2 kNumber(
      R"((?:^|[\s=])(?:\*\*)?[$€£¥₹]?(-?[1-9]\d{0,2}(?:[ ,]\d{3})+(?:\.\d+)?|-?\d+[.,]\d+|\.\d+|-?\d+))"
      R"((\s*(?:%|[Pp]ercent(?:age)?|[Pp]ct))?)");
  static const re2::RE2 kFraction(R"((-?\\frac\{-?\d+(?:[.,]\d+)?\}\{-?\d+(?:[.,]\d+)?\}))");
  const auto scan = [&](const re2::RE2& pattern, bool number) {
    re2::StringPiece rest(text.data(), text.size()), found, percent;
    while (number ? re2::RE2::FindAndConsume(&rest, pattern, &found, &percent)
                  : re2::RE2::FindAndConsume(&rest, pattern, &found)) {
      Span span;
      span.start = static_cast<size_t>(found.data() - text.data());
      span.end = span.start + found.size();
      span.math = std::string(found.data(), found.size());
      if (number) {
        // 1,234.5 and 1 234 are numbers, 2,74 is 2.74.
        const size_t comma = span.math.rfind(',');
        const bool grouped = comma != span.math.npos && span.math.size() - comma == 4;
        if (comma != span.math.npos && !grouped && span.math.find('.') == span.math.npos) {
          span.math[comma] = '.';
        }
        std::erase_if(span.math, [](char c) { return c == ',' || c == ' '; });
        if (!percent.empty()) span.math += "%";
        if (!percent.empty()) span.end += percent.size();
      }
      spans.push_back(std::move(span));
      if (found.data() + found.size() < rest.data()) {
        // The sign behind a number may be the blank in front of the next.
        const size_t back = static_cast<size_t>(rest.data() - found.data()) - found.size();
        rest = re2::StringPiece(rest.data() - back, rest.size() + back);
      }
    }
  };
  scan(kExpression, false);
  scan(kNumber, true);
  scan(kFraction, false);
}

// The first span behind each anchor gets its priority. Spans are sorted by their starts.
void Promote(string_view text, std::vector<Span>& spans) {
  static const re2::RE2 kAnchor(R"((?i)(final answer[^\n]{0,100}?\sis:?|answer:?))");
  re2::StringPiece rest(text.data(), text.size()), found;
  while (re2::RE2::FindAndConsume(&rest, kAnchor, &found)) {
    const size_t end = static_cast<size_t>(found.data() - text.data()) + found.size();
    const bool final_answer = found.size() > 8;
    const auto first = std::find_if(spans.begin(), spans.end(),
                                    [&](const Span& span) { return span.start >= end; });
    if (first == spans.end()) return;
    const size_t near = final_answer ? SkipBlanks(text, end) : end + kNearAnchor;
    if (first->start > near) continue;
    int priority = final_answer ? kFinal : found.ends_with(":") ? kColon : kAnswer;
    size_t behind = first->end;
    while (behind < text.size() && (IsBlank(text[behind]) || text[behind] == '.')) ++behind;
    if (final_answer && text.substr(behind).starts_with("I hope")) priority = kHoped;
    const size_t start = first->start;
    for (auto span = first; span != spans.end() && span->start == start; ++span) {
      span->priority = std::min(span->priority, priority);
    }
  }
}

}  // namespace

bool IsProse(string_view text) {
  for (string_view delimiter : {"$", "\\(", "\\[", "\\boxed", "\\fbox"}) {
    if (text.find(delimiter) != text.npos) return true;
  }
  if (text.find("\\begin") != text.npos) return false;
  const bool formula = text.find("\\text") != text.npos;  // its words may be a formula's
  int words = 0;
  for (size_t i = 0; i < text.size() && words < kProseWords;) {
    size_t end = i;
    while (end < text.size() && IsLetter(text[end])) ++end;
    const bool command = i > 0 && text[i - 1] == '\\';
    const std::string word = Lowered(text.substr(i, end - i));
    if (!command && (word == "answer" || word == "therefore" || word == "thus")) return true;
    if (!command && !formula && end - i >= 3) ++words;
    i = end + 1;
  }
  return words >= kProseWords;
}

std::vector<std::string> AnswerCandidates(string_view text) {
  if (text.size() > kMaxProseBytes) text = text.substr(text.size() - kMaxProseBytes);
  std::vector<Span> spans = Formulas(text);
  AddBoxes(text, spans);
  AddPlain(text, spans);
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::pair(a.start, b.end) < std::pair(b.start, a.end);
  });
  Promote(text, spans);
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    if (a.priority != b.priority) return a.priority < b.priority;
    if (a.end != b.end) return a.end > b.end;
    return a.start < b.start;
  });
  std::vector<std::string> out;
  for (Span& span : spans) {
    if (out.size() == kMaxCandidates) break;
    out.push_back(std::move(span.math));
  }
  return out;
}

}  // namespace tramontane::math
