#include "verifier/code/outcome.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

namespace tramontane {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\v\f";

std::string_view WithoutEnd(std::string_view text) {
  const size_t last = text.find_last_not_of(kBlanks);
  return last == text.npos ? std::string_view() : text.substr(0, last + 1);
}

// Takes the next word off `text`; empty at the end.
std::string_view NextWord(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(kBlanks));
  text.remove_prefix(word.size());
  return word;
}

std::string_view NextLine(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

std::optional<double> Number(std::string_view word) {
  double value = 0;
  if (!word.empty() && word.front() == '+') word.remove_prefix(1);
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

bool Near(double expected, double value, double tolerance) {
  return std::abs(expected - value) <= tolerance * std::max(1.0, std::abs(expected));
}

bool SameWord(std::string_view expected, std::string_view word, double tolerance) {
  if (expected == word) return true;
  if (tolerance <= 0) return false;
  const auto a = Number(expected), b = Number(word);
  return a && b && Near(*a, *b, tolerance);
}

bool SameWords(std::string_view expected, std::string_view output, double tolerance) {
  while (true) {
    const std::string_view a = NextWord(expected), b = NextWord(output);
    if (a.empty() || b.empty()) return a.empty() && b.empty();
    if (!SameWord(a, b, tolerance)) return false;
  }
}

bool SameLines(std::string_view expected, std::string_view output, double tolerance) {
  expected = WithoutEnd(expected);
  output = WithoutEnd(output);
  while (!expected.empty() || !output.empty()) {
    if (expected.empty() || output.empty()) return false;
    const std::string_view a = WithoutEnd(NextLine(expected)), b = WithoutEnd(NextLine(output));
    if (a != b && (tolerance <= 0 || !SameWords(a, b, tolerance))) return false;
  }
  return true;
}

struct Level {
  int tests = 0, passed = 0;
};

}  // namespace

bool SameOutput(std::string_view expected, std::string_view output, Comparison comparison,
                double tolerance) {
  switch (comparison) {
    case Comparison::kExact:
      return expected == output;
    case Comparison::kTokens:
      return SameWords(expected, output, tolerance);
    case Comparison::kLines:
      return SameLines(expected, output, tolerance);
  }
  return false;
}

bool SameResult(const Json& expected, const Json& result, double tolerance) {
  if (expected.is_number() && result.is_number()) {
    return expected == result ||
           (tolerance > 0 && Near(expected.get<double>(), result.get<double>(), tolerance));
  }
  if (expected.type() != result.type() || expected.size() != result.size()) return false;
  if (expected.is_array()) {
    return std::equal(expected.begin(), expected.end(), result.begin(),
                      [&](const Json& a, const Json& b) { return SameResult(a, b, tolerance); });
  }
  if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      if (!result.contains(key) || !SameResult(value, result[key], tolerance)) return false;
    }
    return true;
  }
  return expected == result;
}

double ScoreTests(const CodeTests& tests, const std::vector<bool>& passed, Scoring scoring) {
  std::vector<Level> levels(tests.level_scores.size());
  Level all;
  for (size_t i = 0; i < tests.tests.size(); ++i) {
    for (Level* level : {&levels[static_cast<size_t>(tests.tests[i].level)], &all}) {
      ++level->tests;
      level->passed += passed[i] ? 1 : 0;
    }
  }
  if (scoring == Scoring::kAll) return all.passed == all.tests ? 1 : 0;
  if (scoring == Scoring::kFraction) return static_cast<double>(all.passed) / all.tests;
  double score = 0;
  for (size_t i = 0; i < levels.size(); ++i) {
    if (scoring == Scoring::kStrict && levels[i].passed < levels[i].tests) break;
    score += tests.level_scores[i] * levels[i].passed / levels[i].tests;
  }
  return std::min(score, 1.0);
}

}  // namespace tramontane
