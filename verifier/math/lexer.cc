#include "verifier/math/lexer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "verifier/ascii.h"
#include "verifier/math/word_table.h"

namespace tramontane::math {
namespace {

using std::string_view;

struct Spelling {
  string_view written;
  TokenType type;
  string_view text;
};

constexpr TokenType kSignType = TokenType::kSign;
constexpr TokenType kCommandType = TokenType::kCommand;
constexpr TokenType kNameType = TokenType::kName;

// Commands, without the backslash, that are written differently than they are meant.
constexpr Spelling kCommands[] = {{"dfrac", kCommandType, "frac"},
                                  {"tfrac", kCommandType, "frac"},
                                  {"cfrac", kCommandType, "frac"},
                                  {"dbinom", kCommandType, "binom"},
                                  {"tbinom", kCommandType, "binom"},
                                  {"times", kSignType, "*"},
                                  {"cdot", kSignType, "*"},
                                  {"ast", kSignType, "*"},
                                  {"div", kSignType, "/"},
                                  {"over", kSignType, "/"},
                                  {"colon", kSignType, ":"},
                                  {"lbrace", kSignType, "\\{"},
                                  {"rbrace", kSignType, "\\}"},
                                  {"lbrack", kSignType, "["},
                                  {"rbrack", kSignType, "]"},
                                  {"lgroup", kSignType, "("},
                                  {"rgroup", kSignType, ")"},
                                  {"lvert", kSignType, "|"},
                                  {"rvert", kSignType, "|"},
                                  {"vert", kSignType, "|"},
                                  {"mid", kSignType, "|"},
                                  {"lt", kSignType, "<"},
                                  {"gt", kSignType, ">"},
                                  {"le", kSignType, "<="},
                                  {"leq", kSignType, "<="},
                                  {"leqslant", kSignType, "<="},
                                  {"ge", kSignType, ">="},
                                  {"geq", kSignType, ">="},
                                  {"geqslant", kSignType, ">="},
                                  {"ne", kSignType, "!="},
                                  {"neq", kSignType, "!="},
                                  {"equiv", kSignType, "="},
                                  {"approx", kSignType, "~"},
                                  {"simeq", kSignType, "~"},
                                  {"sim", kSignType, "~"},
                                  {"rightarrow", kCommandType, "to"},
                                  {"mp", kCommandType, "pm"},
                                  {"varnothing", kCommandType, "emptyset"},
                                  {"degree", kCommandType, "circ"},
                                  {"exponentialE", kCommandType, "e"},
                                  {"imath", kNameType, "i"},
                                  {"prime", kSignType, "'"},
                                  {"arcsin", kCommandType, "asin"},
                                  {"arccos", kCommandType, "acos"},
                                  {"arctan", kCommandType, "atan"},
                                  {"arccot", kCommandType, "acot"},
                                  {"arcsec", kCommandType, "asec"},
                                  {"arccsc", kCommandType, "acsc"},
                                  {"arsinh", kCommandType, "asinh"},
                                  {"arcsinh", kCommandType, "asinh"},
                                  {"arcosh", kCommandType, "acosh"},
                                  {"arccosh", kCommandType, "acosh"},
                                  {"artanh", kCommandType, "atanh"},
                                  {"arctanh", kCommandType, "atanh"},
                                  {"N", kCommandType, "setN"},
                                  {"R", kCommandType, "setR"}};

// Commands of one meaning, as they are.
constexpr string_view kMeaningful[] = {
    "frac",     "sqrt", "binom", "choose", "pi",       "infty",  "circ",   "cup",   "cap",
    "setminus", "in",   "notin", "pm",     "emptyset", "sin",    "cos",    "tan",   "cot",
    "sec",      "csc",  "sinh",  "cosh",   "tanh",     "log",    "ln",     "lg",    "exp",
    "max",      "min",  "gcd",   "lcm",    "det",      "lfloor", "rfloor", "lceil", "rceil",
    "sum",      "prod", "int",   "lim",    "begin",    "end",    "mod",    "bmod",  "to"};

// Commands that only change the look.
constexpr string_view kLook[] = {
    "left",      "right",        "bigl",       "bigr",         "Bigl",   "Bigr",
    "biggl",     "biggr",        "big",        "Big",          "bigg",   "Bigg",
    "middle",    "displaystyle", "textstyle",  "scriptstyle",  "quad",   "qquad",
    "thinspace", "medspace",     "thickspace", "negthinspace", "limits", "nolimits",
    "rm",        "bf",           "it",         "ldots",        "dots",   "hfill",
    "nobreak",   "mleft",        "mright",     "boxed",        "fbox",   "small",
    "normalsize", "large",       "Large",      "LARGE",        "huge",   "Huge",
    "tiny",       "scriptsize",  "footnotesize"};

// Commands with one argument, whose content is a name by itself.
constexpr string_view kText[] = {"text",       "textrm", "textbf", "textit", "textnormal",
                                 "mathrm",     "mathbf", "mathit", "mathsf", "mathtt",
                                 "mathnormal", "mbox",   "hbox",   "bm",     "boldsymbol"};
// The same, but the command belongs to the name: \vec{v} is not v.
constexpr string_view kAccents[] = {
    "overline",  "bar", "vec",  "hat",     "tilde",   "widetilde", "widehat", "overrightarrow",
    "underline", "dot", "ddot", "mathcal", "mathscr", "mathfrak",  "overset", "underset"};

// Commands of derivations, not of answers.
constexpr string_view kSentences[] = {"Rightarrow",     "implies",        "iff",
                                      "longrightarrow", "leftrightarrow", "Leftrightarrow"};

constexpr Spelling kCharacters[] = {
    {"\u2212", kSignType, "-"},           {"\u2013", kSignType, "-"},
    {"\u00d7", kSignType, "*"},           {"\u22c5", kSignType, "*"},
    {"\u00b7", kSignType, "*"},           {"\u2217", kSignType, "*"},
    {"\u00f7", kSignType, "/"},           {"\u2215", kSignType, "/"},
    {"\u2264", kSignType, "<="},          {"\u2265", kSignType, ">="},
    {"\u2260", kSignType, "!="},          {"\u2248", kSignType, "~"},
    {"\u2261", kSignType, "="},           {"\u222a", kCommandType, "cup"},
    {"\u2229", kCommandType, "cap"},      {"\u2216", kCommandType, "setminus"},
    {"\u2208", kCommandType, "in"},       {"\u2209", kCommandType, "notin"},
    {"\u00b1", kCommandType, "pm"},       {"\u2213", kCommandType, "pm"},
    {"\u2205", kCommandType, "emptyset"}, {"\u221e", kCommandType, "infty"},
    {"\u221a", kCommandType, "sqrt"},     {"\u03c0", kCommandType, "pi"},
    {"\u00b0", kCommandType, "circ"},     {"\u211d", kCommandType, "setR"},
    {"\u2124", kCommandType, "setZ"},     {"\u2115", kCommandType, "setN"},
    {"\u211a", kCommandType, "setQ"},     {"\u2102", kCommandType, "setC"}};

constexpr std::pair<string_view, char> kSuperscripts[] = {
    {"\u2070", '0'}, {"\u00b9", '1'}, {"\u00b2", '2'}, {"\u00b3", '3'}, {"\u2074", '4'},
    {"\u2075", '5'}, {"\u2076", '6'}, {"\u2077", '7'}, {"\u2078", '8'}, {"\u2079", '9'}};

constexpr string_view kBlankCharacters[] = {"\u00a0", "\u2009", "\u202f", "\u2061"};

// Words that need no backslash to be understood.
constexpr Spelling kWords[] = {
    {"sin", kCommandType, "sin"},        {"cos", kCommandType, "cos"},
    {"tan", kCommandType, "tan"},        {"cot", kCommandType, "cot"},
    {"arcsin", kCommandType, "asin"},    {"arccos", kCommandType, "acos"},
    {"arctan", kCommandType, "atan"},    {"log", kCommandType, "log"},
    {"ln", kCommandType, "ln"},          {"exp", kCommandType, "exp"},
    {"sqrt", kCommandType, "sqrt"},      {"pi", kCommandType, "pi"},
    {"infinity", kCommandType, "infty"}, {"inf", kCommandType, "infty"},
    {"oo", kCommandType, "infty"},       {"gcd", kCommandType, "gcd"},
    {"lcm", kCommandType, "lcm"},        {"max", kCommandType, "max"},
    {"min", kCommandType, "min"}};

template <size_t N>
const Spelling* Find(const Spelling (&table)[N], string_view word) {
  for (const Spelling& row : table) {
    if (row.written == word) return &row;
  }
  return nullptr;
}

class Lexer {
 public:
  explicit Lexer(string_view text) : rest_(text) {}

  std::optional<std::vector<Token>> Run() {
    while (!rest_.empty()) {
      if (tokens_.size() > kMaxTokens) return std::nullopt;
      if (!Next()) return std::nullopt;
    }
    return std::move(tokens_);
  }

 private:
  bool Next() {
    const char c = rest_.front();
    if (IsBlank(c) || c == '~' || c == '$' || c == '"') {
      rest_.remove_prefix(1);
      spaced_ = true;
      return true;
    }
    if (c == '\\') return Command();
    if (IsDigit(c) || (c == '.' && rest_.size() > 1 && IsDigit(rest_[1]))) return Digits();
    if (IsLetter(c)) return Word();
    if (static_cast<unsigned char>(c) >= 0x80) return Character();
    return Punctuation();
  }

  void Add(TokenType type, string_view text, size_t length) {
    tokens_.push_back({type, std::string(text), spaced_});
    spaced_ = false;
    rest_.remove_prefix(length);
  }

  bool Punctuation() {
    for (string_view two : {"<=", ">=", "!=", "==", "~=", "**"}) {
      if (!rest_.starts_with(two)) continue;
      Add(TokenType::kSign, two == "==" ? "=" : two == "~=" ? "~" : two == "**" ? "^" : two, 2);
      return true;
    }
    static constexpr string_view kSingle = "+-*/^_()[]{}|,;:!=<>%&'";
    if (kSingle.find(rest_.front()) == string_view::npos) return false;
    Add(TokenType::kSign, rest_.substr(0, 1), 1);
    return true;
  }

  bool Digits() {
    size_t n = 0;
    while (n < rest_.size() && IsDigit(rest_[n])) ++n;
    // \frac12 and \sqrt2x: without braces the argument is one digit.
    const Token* last = tokens_.empty() ? nullptr : &tokens_.back();
    if (last != nullptr && last->type == TokenType::kCommand &&
        (last->text == "frac" || last->text == "sqrt" || last->text == "binom")) {
      Add(TokenType::kNumber, rest_.substr(0, 1), 1);
      return true;
    }
    if (n + 1 < rest_.size() && rest_[n] == '.' && IsDigit(rest_[n + 1])) {
      ++n;
      while (n < rest_.size() && IsDigit(rest_[n])) ++n;
    }
    // 1.5E3, and 1.5e3 where no e-th power can be meant.
    size_t exponent = n;
    if (exponent < rest_.size() && (rest_[exponent] == 'E' || rest_[exponent] == 'e')) {
      ++exponent;
      if (exponent < rest_.size() && (rest_[exponent] == '+' || rest_[exponent] == '-')) ++exponent;
      size_t end = exponent;
      while (end < rest_.size() && IsDigit(rest_[end])) ++end;
      if (end > exponent) n = end;
    }
    Add(TokenType::kNumber, rest_.substr(0, n), n);
    return true;
  }

  bool Word() {
    size_t n = 1;
    while (n < rest_.size() && IsLetter(rest_[n])) ++n;
    const string_view word = rest_.substr(0, n);
    if (const Spelling* row = Find(kWords, word)) {
      Add(row->type, row->text, n);
      return true;
    }
    // Letters side by side are factors. Of a word of several letters the case means nothing.
    for (size_t i = 0; i < n; ++i) Letter(word[i]);
    return true;
  }

  void Letter(char c) {
    if (c == 'e' || c == 'i' || c == 'I') {
      Add(TokenType::kCommand, c == 'e' ? "e" : "i", 1);
    } else {
      const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      Add(TokenType::kName, string_view(&lower, 1), 1);
    }
  }

  bool Character() {
    for (string_view blank : kBlankCharacters) {
      if (!rest_.starts_with(blank)) continue;
      rest_.remove_prefix(blank.size());
      spaced_ = true;
      return true;
    }
    for (const auto& [written, digit] : kSuperscripts) {
      if (!rest_.starts_with(written)) continue;
      Add(TokenType::kSign, "^", 0);
      Add(TokenType::kNumber, string_view(&digit, 1), written.size());
      return true;
    }
    for (const Spelling& row : kCharacters) {
      if (!rest_.starts_with(row.written)) continue;
      Add(row.type, row.text, row.written.size());
      return true;
    }
    // Any other letter is a name of its own: Greek, accents, CJK.
    size_t n = 1;
    while (n < rest_.size() && (static_cast<unsigned char>(rest_[n]) & 0xC0) == 0x80) ++n;
    Add(TokenType::kName, rest_.substr(0, n), n);
    return true;
  }

  bool Command() {
    size_t n = 1;
    while (n < rest_.size() && IsLetter(rest_[n])) ++n;
    const string_view name = rest_.substr(1, n - 1);
    if (name.empty()) return Escape();
    if (Contains(kLook, name)) {
      rest_.remove_prefix(n);
      // The dot of \left. stands for no bracket at all.
      if ((name == "left" || name == "right") && rest_.starts_with('.')) rest_.remove_prefix(1);
      spaced_ = true;
      return true;
    }
    if (const Spelling* row = Find(kCommands, name)) {
      Add(row->type, row->text, n);
    } else if (Contains(kMeaningful, name)) {
      Add(TokenType::kCommand, name, n);
    } else if (Contains(kText, name) || Contains(kAccents, name)) {
      return Braced(name, n);
    } else if (name == "phantom" || name == "hphantom") {
      rest_.remove_prefix(std::max(n, ArgumentEnd(n)));  // its width alone
    } else if (name == "mathbb") {
      return NamedSet(n);
    } else if (name == "operatorname") {
      return Operator(n);
    } else if (Contains(kSentences, name)) {
      return false;
    } else {
      Add(TokenType::kName, Lowered(name), n);  // \alpha, \angle, \heartsuit: symbols
    }
    return true;
  }

  bool Escape() {
    if (rest_.size() < 2) return false;
    const string_view two = rest_.substr(0, 2);
    if (two == "\\{" || two == "\\}" || two == "\\\\") {
      Add(TokenType::kSign, two, 2);
    } else if (two == "\\%") {
      Add(TokenType::kSign, "%", 2);
    } else if (two == "\\|") {
      Add(TokenType::kSign, "|", 2);
    } else if (string_view(" ,;:!$()[]").find(two[1]) != string_view::npos) {
      rest_.remove_prefix(2);
      spaced_ = true;
    } else {
      return false;
    }
    return true;
  }

  // The length of a braced argument that starts at `at`, blanks before it included; 0 when there is
  // none.
  size_t ArgumentEnd(size_t at) const {
    const size_t open = rest_.find_first_not_of(' ', at);
    if (open == rest_.npos || rest_[open] != '{') return 0;
    int depth = 0;
    for (size_t i = open; i < rest_.size(); ++i) {
      if (rest_[i] == '\\') {
        ++i;
      } else if (rest_[i] == '{') {
        ++depth;
      } else if (rest_[i] == '}' && --depth == 0) {
        return i + 1;
      }
    }
    return 0;
  }

  bool Braced(string_view name, size_t n) {
    const size_t end = ArgumentEnd(n);
    if (end == 0) {
      // \mathrm x: the next letter alone.
      rest_.remove_prefix(n);
      return Contains(kText, name);
    }
    const size_t open = rest_.find('{', n);
    std::string content = Contains(kAccents, name) ? std::string(name) + ":" : "";
    for (char c : rest_.substr(open + 1, end - open - 2)) {
      if (string_view(" (){}\\\"'").find(c) != string_view::npos) continue;
      content += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    if (content.empty()) {
      rest_.remove_prefix(end);
    } else {
      Add(TokenType::kName, content, end);
    }
    return true;
  }

  bool NamedSet(size_t n) {
    const size_t end = ArgumentEnd(n);
    const size_t letter = rest_.find_first_of("NZQRCP", n);
    if (letter == rest_.npos || (end != 0 && letter >= end)) return false;
    Add(TokenType::kCommand, "set" + std::string(1, rest_[letter]), end != 0 ? end : letter + 1);
    return true;
  }

  bool Operator(size_t n) {
    const size_t end = ArgumentEnd(n);
    if (end == 0) return false;
    std::string name;
    for (char c : rest_.substr(n, end - n)) {
      if (IsLetter(c)) name += c;
    }
    const Spelling* row = Find(kCommands, name);
    Add(TokenType::kCommand, row != nullptr ? row->text : string_view(name), end);
    return true;
  }

  string_view rest_;
  bool spaced_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::optional<std::vector<Token>> Tokenize(std::string_view text) { return Lexer(text).Run(); }

}  // namespace tramontane::math
