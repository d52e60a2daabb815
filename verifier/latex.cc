#include "verifier/latex.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

namespace tramontane {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

// Commands (without the backslash) that stand for something plainer.
constexpr std::array<Replacement, 23> kCommands = {{{"left", ""},
                                                    {"right", ""},
                                                    {"bigl", ""},
                                                    {"bigr", ""},
                                                    {"big", ""},
                                                    {"Big", ""},
                                                    {"displaystyle", ""},
                                                    {"textstyle", ""},
                                                    {"quad", " "},
                                                    {"qquad", " "},
                                                    {"dfrac", "\\frac"},
                                                    {"tfrac", "\\frac"},
                                                    {"cfrac", "\\frac"},
                                                    {"times", "*"},
                                                    {"cdot", "*"},
                                                    {"degree", "°"},
                                                    {"lt", "<"},
                                                    {"gt", ">"},
                                                    {"le", "\\leq"},
                                                    {"ge", "\\geq"},
                                                    {"ne", "\\neq"},
                                                    {"lbrace", "\\{"},
                                                    {"rbrace", "\\}"}}};
// Commands whose braces are dropped and whose content stays.
constexpr std::array<std::string_view, 13> kWrappers = {
    "text",   "textrm", "textbf", "textit", "textnormal", "mathrm", "mathbf",
    "mathit", "mathsf", "mbox",   "boxed",  "fbox",       "operatorname"};
// Escaped characters.
constexpr std::array<Replacement, 14> kEscapes = {{{",", ""},
                                                   {";", ""},
                                                   {":", ""},
                                                   {"!", ""},
                                                   {" ", " "},
                                                   {"%", "%"},
                                                   {"$", ""},
                                                   {"#", "#"},
                                                   {"_", "_"},
                                                   {"&", "&"},
                                                   {"(", ""},
                                                   {")", ""},
                                                   {"[", ""},
                                                   {"]", ""}}};
// Plain sequences, most of them UTF-8.
constexpr std::array<Replacement, 16> kPlain = {{{"^{\\circ}", "°"},
                                                 {"^\\circ", "°"},
                                                 {"{,}", ","},
                                                 {"\u2212", "-"},
                                                 {"\u2013", "-"},
                                                 {"\u00d7", "*"},
                                                 {"\u00b7", "*"},
                                                 {"\u22c5", "*"},
                                                 {"\u00a0", " "},
                                                 {"\u2009", " "},
                                                 {"\u202f", " "},
                                                 {"~", " "},
                                                 {"$", ""},
                                                 {"\n", " "},
                                                 {"\t", " "},
                                                 {"\r", " "}}};

template <size_t N>
const Replacement* Find(const std::array<Replacement, N>& table, std::string_view key) {
  for (const Replacement& row : table) {
    if (row.first == key) return &row;
  }
  return nullptr;
}

class Cleaner {
 public:
  explicit Cleaner(std::string_view text) : rest_(text) { out_.reserve(text.size()); }

  std::optional<std::string> Run() {
    while (!rest_.empty()) {
      if (Plain()) continue;
      const char c = rest_.front();
      if (c == '\\') {
        Command();
        continue;
      }
      rest_.remove_prefix(1);
      if (c == '{') {
        open_.push_back(false);
      } else if (c == '}') {
        if (open_.empty()) return std::nullopt;
        const bool wrapper = open_.back();
        open_.pop_back();
        if (wrapper) continue;
      }
      Emit(c);
    }
    if (!open_.empty()) return std::nullopt;
    return Trimmed();
  }

 private:
  // Blanks are merged here, so that the whole is one pass.
  void Emit(char c) {
    if (c == ' ' && (out_.empty() || out_.back() == ' ')) return;
    out_ += c;
  }
  void Emit(std::string_view piece) {
    for (char c : piece) Emit(c);
  }

  bool Plain() {
    // Most characters begin none of them.
    static constexpr std::string_view kFirst = "^{\xe2\xc3\xc2~$\n\t\r";
    if (kFirst.find(rest_.front()) == kFirst.npos) return false;
    for (const auto& [from, to] : kPlain) {
      if (rest_.starts_with(from)) {
        rest_.remove_prefix(from.size());
        Emit(to);
        return true;
      }
    }
    return false;
  }

  void Command() {
    size_t end = 1;
    while (end < rest_.size() && std::isalpha(static_cast<unsigned char>(rest_[end]))) ++end;
    const std::string_view name = rest_.substr(1, end - 1);
    if (name.empty()) {
      Escape();
      return;
    }
    for (std::string_view wrapper : kWrappers) {
      if (name != wrapper) continue;
      const size_t brace = rest_.find_first_not_of(' ', end);
      if (brace == rest_.npos || rest_[brace] != '{') break;
      open_.push_back(true);
      rest_.remove_prefix(brace + 1);
      return;
    }
    if (const Replacement* row = Find(kCommands, name)) {
      Emit(row->second);
    } else {
      Emit(rest_.substr(0, end));
    }
    rest_.remove_prefix(end);
  }

  void Escape() {
    const std::string_view escaped = rest_.substr(1, 1);
    if (const Replacement* row = Find(kEscapes, escaped)) {
      Emit(row->second);
    } else {
      Emit(rest_.substr(0, 2));
    }
    rest_.remove_prefix(std::min<size_t>(2, rest_.size()));
  }

  std::string Trimmed() {
    while (!out_.empty() && (out_.back() == ' ' || out_.back() == '.')) out_.pop_back();
    return std::move(out_);
  }

  std::string_view rest_;
  std::string out_;
  std::vector<bool> open_;  // one per open brace: does it belong to a dropped wrapper?
};

}  // namespace

std::optional<std::string> CleanMath(std::string_view text) { return Cleaner(text).Run(); }

}  // namespace tramontane
