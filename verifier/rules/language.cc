#include "verifier/rules/language.h"

#include <fasttext/fasttext.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"
#include "verifier/rules/text.h"

namespace tramontane {
namespace {

constexpr size_t kMaxTextBytes = 1 << 17;  // of a longer one the beginning speaks for the rest
constexpr size_t kLongestTag = 40;
constexpr std::string_view kLabel = "__label__";

struct Range {
  char32_t first, last;
  const char* script;
};
// Letters only; sorted.
constexpr Range kRanges[] = {
    {0x41, 0x5A, "latin"},        {0x61, 0x7A, "latin"},      {0xC0, 0x24F, "latin"},
    {0x370, 0x3FF, "greek"},      {0x400, 0x52F, "cyrillic"}, {0x531, 0x58F, "armenian"},
    {0x591, 0x5F4, "hebrew"},     {0x600, 0x6FF, "arabic"},   {0x900, 0x97F, "devanagari"},
    {0x980, 0x9FF, "bengali"},    {0xB80, 0xBFF, "tamil"},    {0xE00, 0xE7F, "thai"},
    {0x10A0, 0x10FF, "georgian"}, {0x1100, 0x11FF, "hangul"}, {0x1E00, 0x1EFF, "latin"},
    {0x3040, 0x30FF, "kana"},     {0x3400, 0x4DBF, "han"},    {0x4E00, 0x9FFF, "han"},
    {0xAC00, 0xD7AF, "hangul"}};

constexpr std::pair<const char*, const char*> kOwnScript[] = {
    {"el", "greek"},      {"hy", "armenian"}, {"he", "hebrew"}, {"ar", "arabic"},
    {"hi", "devanagari"}, {"bn", "bengali"},  {"ta", "tamil"},  {"th", "thai"},
    {"ka", "georgian"},   {"ko", "hangul"},   {"ja", "kana"},   {"zh", "han"},
    {"ru", "cyrillic"}};

// One character and its length; an invalid byte is a character of its own.
std::pair<char32_t, size_t> Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char b = byte(0);
  const size_t n = b < 0x80 ? 1 : b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : b >= 0xC0 ? 2 : 1;
  if (n == 1 || n > text.size()) return {b < 0x80 ? b : 0xFFFD, 1};
  char32_t c = b & (0xFF >> (n + 1));
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {0xFFFD, 1};
    c = (c << 6) | (byte(i) & 0x3F);
  }
  return {c, n};
}

const char* ScriptOf(char32_t c) {
  for (const Range& range : kRanges) {
    if (c < range.first) return nullptr;
    if (c <= range.last) return range.script;
  }
  return nullptr;
}

bool IsIdeographic(const char* script) {
  return std::string_view(script) == "han" || std::string_view(script) == "kana";
}

// Words by script: a run of letters of one script; each ideograph is one.
std::map<std::string, double> CountByScript(std::string_view text) {
  std::map<std::string, double> words;
  const char* previous = nullptr;
  while (!text.empty()) {
    const auto [c, n] = Decode(text);
    const char* script = ScriptOf(c);
    if (script != nullptr && (script != previous || IsIdeographic(script))) ++words[script];
    previous = script;
    text.remove_prefix(n);
  }
  // Japanese is written in both; a fifth of kana makes all of it Japanese.
  const auto kana = words.find("kana"), han = words.find("han");
  if (kana != words.end() && han != words.end() && kana->second * 4 >= han->second) {
    kana->second += han->second;
    words.erase(han);
  }
  return words;
}

std::string_view Beginning(std::string_view text) {
  if (text.size() <= kMaxTextBytes) return text;
  size_t end = kMaxTextBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

// Cuts `open`…`close` out, the delimiters included, where both are there and at most `longest`
// bytes apart.
void Cut(std::string& text, std::string_view open, std::string_view close,
         size_t longest = std::string::npos) {
  std::string out;
  size_t at = 0, search = 0;
  for (size_t start; (start = text.find(open, search)) != text.npos;) {
    const size_t end = text.find(close, start + open.size());
    if (end == text.npos) break;
    search = start + open.size();
    if (end - start > longest) continue;
    out.append(text, at, start - at);
    out += ' ';
    search = at = end + close.size();
  }
  out.append(text, at);
  text = std::move(out);
}

}  // namespace

struct LanguageDetector::Model {
  fasttext::FastText fast_text;

  // One line; newlines would end it.
  std::string Predict(std::string_view text) const {
    std::string line(text);
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::istringstream in(line + "\n");
    std::vector<std::pair<fasttext::real, std::string>> best;
    if (!fast_text.predictLine(in, best, 1, 0.0f) || best.empty()) return "";
    std::string_view label = best[0].second;
    if (label.starts_with(kLabel)) label.remove_prefix(kLabel.size());
    return std::string(label);
  }
};

LanguageDetector::LanguageDetector() = default;
LanguageDetector::~LanguageDetector() = default;

absl::StatusOr<std::shared_ptr<const LanguageDetector>> LanguageDetector::Make(
    const std::string& model_path) {
  std::shared_ptr<LanguageDetector> detector(new LanguageDetector());
  if (model_path.empty()) return detector;
  if (!std::filesystem::is_regular_file(model_path)) {
    return absl::NotFoundError(model_path + ": no such fastText model");
  }
  detector->model_ = std::make_unique<Model>();
  try {  // fastText's only way to refuse a file
    detector->model_->fast_text.loadModel(model_path);
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(model_path + ": " + e.what());
  }
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(model_path));
  detector->digest_ = Sha256Hex(bytes);
  return detector;
}

std::optional<std::string> LanguageDetector::Detect(std::string_view text) const {
  const std::string words = WithoutMathAndCode(Beginning(text));
  const std::map<std::string, double> scripts = CountByScript(words);
  if (scripts.empty()) return std::nullopt;
  if (model_ != nullptr) return model_->Predict(words);
  return std::max_element(scripts.begin(), scripts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

double LanguageDetector::Proportion(std::string_view text, const std::string& language) const {
  const std::string words = WithoutMathAndCode(Beginning(text));
  double all = 0, right = 0;
  if (model_ == nullptr) {
    for (const auto& [script, count] : CountByScript(words)) {
      all += count;
      if (script == language) right += count;
    }
    return all == 0 ? 1 : right / all;
  }
  // By line: single words say too little about their language.
  std::istringstream lines(words);
  for (std::string line; std::getline(lines, line);) {
    double count = 0;
    for (const auto& [script, n] : CountByScript(line)) count += n;
    if (count == 0) continue;
    all += count;
    if (model_->Predict(line) == language) right += count;
  }
  return all == 0 ? 1 : right / all;
}

std::optional<std::string> LanguageDetector::NameOf(const std::string& code) const {
  if (model_ != nullptr) return code;
  for (const auto& [language, script] : kOwnScript) {
    if (code == language) return script;
  }
  return std::nullopt;
}

std::string WithoutMathAndCode(std::string_view text) {
  std::string out(text);
  Cut(out, "```", "```");
  Cut(out, "$$", "$$");
  Cut(out, "\\[", "\\]");
  Cut(out, "\\(", "\\)");
  Cut(out, "\\boxed{", "}");
  Cut(out, "`", "`");
  Cut(out, "$", "$");
  Cut(out, "<", ">", kLongestTag);
  // Commands that stand alone.
  std::string plain;
  for (size_t i = 0; i < out.size();) {
    if (out[i] != '\\') {
      plain += out[i++];
      continue;
    }
    ++i;
    while (i < out.size() && ((out[i] >= 'a' && out[i] <= 'z') || (out[i] >= 'A' && out[i] <= 'Z')))
      ++i;
    plain += ' ';
  }
  return plain;
}

}  // namespace tramontane
