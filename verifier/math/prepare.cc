#include "verifier/math/prepare.h"

#include <re2/re2.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "verifier/ascii.h"
#include "verifier/math/word_table.h"

namespace tramontane::math {
namespace {

using std::string_view;

constexpr size_t kNearBoxes = 10;       // this close, boxes belong together
constexpr size_t kConnectedBoxes = 70;  // so they do this close with a comma, "and" or "or" between

// Words behind a number that do not change it. Singular; s and es may follow.
constexpr string_view kUnits[] = {
    "mm",       "cm",        "dm",         "m",          "km",     "millimeter", "centimeter",
    "meter",    "kilometer", "millimetre", "centimetre", "metre",  "kilometre",  "in",
    "inch",     "ft",        "foot",       "feet",       "yd",     "yard",       "mi",
    "mile",     "mg",        "g",          "gm",         "gram",   "kg",         "kilogram",
    "lb",       "pound",     "oz",         "ounce",      "ton",    "tonne",      "ml",
    "mL",       "l",         "L",          "liter",      "litre",  "gal",        "gallon",
    "quart",    "pint",      "cup",        "s",          "sec",    "second",     "min",
    "minute",   "h",         "hr",         "hour",       "day",    "week",       "month",
    "yr",       "year",      "am",         "pm",         "noon",   "dollar",     "USD",
    "cent",     "euro",      "rupee",      "rs",         "yuan",   "deg",        "degree",
    "rad",      "radian",    "unit",       "square",     "sq",     "cubic",      "cube",
    "acre",     "hectare",   "mph",        "kph",        "kmph",   "kmh",        "per",
    "ohm",      "Hz",        "person",     "people",     "man",    "men",        "woman",
    "women",    "child",     "children",   "student",    "point",  "digit",      "integer",
    "number",   "way",       "time",       "piece",      "item",   "apple",      "coin",
    "ticket",   "tile",      "edge",       "mark",       "meal",   "page",       "book",
    "car",      "dog",       "cat",        "ball",       "marble", "monkey",     "soldier",
    "toy",      "round",     "north",      "south",      "east",   "west",       "prime",
    "ratio",    "profit",    "loss",       "gain",       "more",   "less",       "increase",
    "decrease", "t",         "c",          "d",          "o",      "th"};
// Between the words of one unit.
constexpr string_view kJoiners[] = {"per", "square", "sq", "cubic", "cu"};

constexpr string_view kTextCommands[] = {"\\text",       "\\textrm", "\\textbf", "\\textit",
                                         "\\textnormal", "\\mathrm", "\\mbox",   "\\hbox"};

bool IsUnit(string_view word) {
  if (Contains(kUnits, word)) return true;
  if (word.ends_with("es") && Contains(kUnits, word.substr(0, word.size() - 2))) return true;
  return word.size() > 1 && word.ends_with('s') &&
         Contains(kUnits, word.substr(0, word.size() - 1));
}

void ReplaceAll(std::string& text, string_view from, string_view to) {
  if (text.find(from) == text.npos) return;
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != text.npos; at = hit + from.size()) {
    out.append(text, at, hit - at);
    out += to;
  }
  out.append(text, at);
  text = std::move(out);
}

// Spaces that are written as commands, as blanks. A line break (two backslashes) stays.
std::string WithPlainBlanks(string_view text) {
  static constexpr string_view kSpaces[] = {"\\,", "\\;", "\\:", "\\ ", "\\quad", "\\qquad"};
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const string_view rest = text.substr(i);
    size_t space = 0;
    for (string_view one : kSpaces) {
      if (!rest.starts_with(one)) continue;
      const string_view behind = rest.substr(one.size());
      const bool goes_on = IsLetter(one.back()) && !behind.empty() && IsLetter(behind[0]);
      if (!goes_on) space = one.size();
    }
    if (rest == "\\") space = 1;  // of "\ ", trimmed
    const size_t length = space > 0 ? space : rest.starts_with("\\\\") ? 2 : 1;
    out += space > 0 ? string_view(" ") : rest.substr(0, length);
    i += length;
  }
  return out;
}

// Of "= 16" and "\approx 16" what is said of it.
string_view WithoutLeadingSign(string_view text) {
  for (string_view sign : {"=", ":", "\\approx", "\\sim", "\\simeq", "≈"}) {
    if (!text.starts_with(sign)) continue;
    const string_view rest = text.substr(sign.size());
    if (!IsLetter(sign.back()) || rest.empty() || !IsLetter(rest[0])) return Trimmed(rest);
  }
  return text;
}

// One box: where it starts, where its content lies, where it ends.
struct Box {
  size_t start, content, content_end, end;
};

// Outermost boxes whose braces balance; a last one that is never closed goes to the end.
std::vector<Box> Boxes(string_view text) {
  struct Open {
    size_t start, content;
    bool boxed;
  };
  std::vector<Open> open;
  std::vector<Box> boxes;
  for (size_t i = 0; i < text.size();) {
    const string_view rest = text.substr(i);
    const size_t command = rest.starts_with("\\boxed") ? 6 : rest.starts_with("\\fbox") ? 5 : 0;
    if (command != 0) {
      size_t brace = i + command;
      while (brace < text.size() && IsBlank(text[brace])) ++brace;
      if (brace < text.size() && text[brace] == '{') {
        open.push_back({i, brace + 1, true});
        i = brace + 1;
        continue;
      }
    }
    if (text[i] == '\\') {
      i += 2;
      continue;
    }
    if (text[i] == '{') {
      open.push_back({i, i + 1, false});
    } else if (text[i] == '}' && !open.empty()) {
      if (open.back().boxed) {
        while (!boxes.empty() && boxes.back().start > open.back().start) boxes.pop_back();
        boxes.push_back({open.back().start, open.back().content, i, i + 1});
      }
      open.pop_back();
    }
    ++i;
  }
  return boxes;
}

bool Connected(string_view between) {
  if (between.size() < kNearBoxes) return true;
  if (between.size() >= kConnectedBoxes) return false;
  return between.find_first_of(",;") != between.npos || between.find("and") != between.npos ||
         between.find(" or ") != between.npos;
}

// "and", "or" and the percent words, as words of their own.
std::string WithoutWords(string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (!IsLetter(text[i]) || (i > 0 && text[i - 1] == '\\')) {
      out += text[i++];
      continue;
    }
    size_t end = i;
    while (end < text.size() && IsLetter(text[end])) ++end;
    const string_view word = text.substr(i, end - i);
    if (word == "and" || word == "or") {
      while (!out.empty() && (IsBlank(out.back()) || out.back() == ',')) out.pop_back();
      out += " , ";
    } else if (word == "percent" || word == "percentage" || word == "pct") {
      out += '%';
    } else {
      out += word;
    }
    i = end;
  }
  return out;
}

// "\text{ , }" → ",": braces of a text command around punctuation alone.
std::string WithoutTextBraces(std::string text) {
  static const re2::RE2 kPunctuation(
      R"(\\(?:text|textrm|textbf|textit|textnormal|mathrm|mbox|hbox)\s*\{\s*([,%])\s*\})");
  static const re2::RE2 kTwoCommas(R"(,\s*,)");
  if (re2::RE2::GlobalReplace(&text, kPunctuation, " \\1 ") > 0) {
    re2::RE2::GlobalReplace(&text, kTwoCommas, ",");
  }
  return text;
}

// Without a power of one digit at its end: ^2, ^{2}, ^{-1}.
string_view WithoutPower(string_view text) {
  string_view rest = text;
  const bool braces = rest.ends_with('}');
  if (braces) rest.remove_suffix(1);
  if (rest.empty() || !IsDigit(rest.back())) return text;
  rest.remove_suffix(1);
  if (braces && rest.ends_with('-')) rest.remove_suffix(1);
  if (!rest.ends_with(braces ? "^{" : "^")) return text;
  return Trimmed(rest.substr(0, rest.size() - (braces ? 2 : 1)));
}

// The start of a text command whose braces end at the end of `text`, a power behind them included.
std::optional<size_t> TrailingText(string_view text) {
  text = Trimmed(WithoutPower(text));
  if (!text.ends_with('}')) return std::nullopt;
  size_t open = text.size();
  for (int depth = 0; open > 0;) {
    const char c = text[--open];
    depth += (c == '}') - (c == '{');
    if (depth == 0) break;
  }
  if (text[open] != '{') return std::nullopt;
  string_view before = Trimmed(text.substr(0, open));
  for (string_view command : kTextCommands) {
    if (before.ends_with(command)) return before.size() - command.size();
  }
  return std::nullopt;
}

// Unit words at the end, behind a digit, a brace or a blank.
string_view WithoutUnits(string_view text) {
  for (int i = 0; i < 4; ++i) {
    text = Trimmed(text);
    string_view body = text;
    if (body.size() > 2 && body[body.size() - 2] == '^' && IsDigit(body.back()) &&
        IsLetter(body[body.size() - 3])) {
      body.remove_suffix(2);  // cm^2
    }
    for (string_view power : {"\u00b2", "\u00b3"}) {
      if (body.ends_with(power)) body.remove_suffix(power.size());  // cm²
    }
    if (body.ends_with(".") && body.size() > 1 && IsLetter(body[body.size() - 2])) {
      body.remove_suffix(1);
    }
    size_t start = body.size();
    while (start > 0 && IsLetter(body[start - 1])) --start;
    const string_view word = body.substr(start);
    if (word.empty() || !IsUnit(word) || start == 0) break;
    const char before = body[start - 1];
    if (before == '/' && start > 1 && IsLetter(body[start - 2])) {
      text = body.substr(0, start - 1);  // km/h
      continue;
    }
    if (!IsDigit(before) && before != '}' && !IsBlank(before)) break;
    const string_view rest = Trimmed(body.substr(0, start));
    // "x t" is a product; "5 t", "5 square cm" and "5 miles per hour" are quantities.
    size_t last = rest.size();
    while (last > 0 && IsLetter(rest[last - 1])) --last;
    const string_view neighbour = rest.substr(last);
    if (rest.empty() ||
        (!neighbour.empty() && !IsUnit(neighbour) && !Contains(kJoiners, neighbour))) {
      break;
    }
    text = rest;
  }
  return text;
}

}  // namespace

std::string JoinedBoxes(string_view text) {
  const std::vector<Box> boxes = Boxes(text);
  if (boxes.empty()) {
    // \boxed{5 that is never closed, or \boxed 5.
    const size_t last = std::max(text.rfind("\\boxed") + 1, text.rfind("\\fbox") + 1);
    if (last == 0) return std::string(text);
    string_view rest = text.substr(last - 1);
    rest.remove_prefix(rest.starts_with("\\boxed") ? 6 : 5);
    rest = Trimmed(rest);
    if (rest.starts_with('{')) rest.remove_prefix(1);
    return std::string(Trimmed(rest.substr(0, rest.find('\n'))));
  }
  size_t first = boxes.size() - 1;
  while (first > 0) {
    const size_t from = boxes[first - 1].end;
    if (!Connected(text.substr(from, boxes[first].start - from))) break;
    --first;
  }
  std::string joined;
  string_view previous;
  for (size_t i = first; i < boxes.size(); ++i) {
    const string_view content =
        Trimmed(text.substr(boxes[i].content, boxes[i].content_end - boxes[i].content));
    if (i > first && content == previous) continue;
    if (i > first) joined += ',';
    joined += content;
    previous = content;
  }
  return joined;
}

std::string Prepared(string_view text) {
  std::string out = WithoutTextBraces(WithoutWords(Trimmed(text)));
  ReplaceAll(out, "{,}", ",");
  ReplaceAll(out, "\\!", "");
  out = WithPlainBlanks(out);
  for (string_view money : {"\\$", "€", "£", "¥", "₹"}) ReplaceAll(out, money, "");
  // \text{ cm}, \text{m}/\text{s}, \text{N}\cdot\text{m}
  for (int i = 0; i < 4; ++i) {
    const std::optional<size_t> start = TrailingText(out);
    if (!start) break;
    string_view before = Trimmed(string_view(out).substr(0, *start));
    for (string_view sign : {"/", "\\cdot"}) {
      if (before.ends_with(sign)) before = Trimmed(before.substr(0, before.size() - sign.size()));
    }
    if (before.empty()) break;
    out.resize(before.size() + static_cast<size_t>(before.data() - out.data()));
  }
  string_view rest = WithoutLeadingSign(Trimmed(out));
  // The t of dt is no ton.
  if (rest.find("\\int") == rest.npos) rest = WithoutUnits(rest);
  while (rest.ends_with('.') || rest.ends_with(',') || rest.ends_with(';')) rest.remove_suffix(1);
  return std::string(Trimmed(rest));
}

}  // namespace tramontane::math
