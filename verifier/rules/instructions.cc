#include "verifier/rules/instructions.h"

#include <re2/re2.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/status.h"
#include "verifier/rules/params.h"
#include "verifier/rules/patterns.h"
#include "verifier/rules/text.h"

namespace tramontane {
namespace {

using Texts = std::vector<std::string>;
using Check =
    std::function<absl::StatusOr<bool>(const std::string&, const Json&, const LanguageDetector&)>;

absl::StatusOr<std::unique_ptr<re2::RE2>> Compile(const std::string& pattern, bool any_case) {
  auto compiled = std::make_unique<re2::RE2>(pattern, PatternOptions(any_case));
  if (!compiled->ok()) {
    return absl::InvalidArgumentError("kwargs: '" + pattern + "' is no RE2 pattern");
  }
  return compiled;
}

int64_t CountMatches(std::string_view text, const re2::RE2& pattern) {
  re2::StringPiece rest(text.data(), text.size());
  int64_t count = 0;
  const char* last = nullptr;
  while (re2::RE2::FindAndConsume(&rest, pattern)) {
    ++count;
    if (rest.data() == last) {  // an empty match does not move
      if (rest.empty()) break;
      rest.remove_prefix(1);
    }
    last = rest.data();
  }
  return count;
}

Texts Split(std::string_view text, const re2::RE2& separator) {
  Texts parts;
  re2::StringPiece rest(text.data(), text.size()), match;
  const char* start = text.data();
  while (re2::RE2::FindAndConsume(&rest, separator, &match)) {
    parts.emplace_back(start, match.data() - start);
    start = match.data() + match.size();
  }
  parts.emplace_back(start, text.data() + text.size() - start);
  return parts;
}

absl::StatusOr<std::string> NeedText(const Json& arguments, const std::string& key) {
  ASSIGN_OR_RETURN(std::string value, TextParam(arguments, key, ""));
  if (value.empty()) return absl::InvalidArgumentError("kwargs." + key + ": missing");
  return value;
}

absl::StatusOr<Texts> NeedTexts(const Json& arguments, const std::string& key) {
  ASSIGN_OR_RETURN(Texts values, TextsParam(arguments, key));
  if (values.empty()) return absl::InvalidArgumentError("kwargs." + key + ": missing");
  return values;
}

absl::StatusOr<int64_t> NeedNumber(const Json& arguments, const std::string& key) {
  ASSIGN_OR_RETURN(const double value, NumberParam(arguments, key, -1));
  if (value < 0 || value > 1e9) {
    return absl::InvalidArgumentError("kwargs." + key + ": missing, or no count");
  }
  return static_cast<int64_t>(value);
}

// "less than" or "at least".
absl::StatusOr<bool> Relates(int64_t count, const Json& arguments, const std::string& number,
                             const std::string& relation) {
  ASSIGN_OR_RETURN(const int64_t threshold, NeedNumber(arguments, number));
  ASSIGN_OR_RETURN(const std::string kind, NeedText(arguments, relation));
  if (kind == "less than") return count < threshold;
  if (kind == "at least") return count >= threshold;
  return absl::InvalidArgumentError("kwargs." + relation + ": must be 'less than' or 'at least'");
}

int64_t CountWords(const std::string& text) {
  static const re2::RE2 kWord(R"([\pL\pN_]+)");
  return CountMatches(text, kWord);
}

// Ends at . ! or ?, quotes and brackets included, before a blank; a single letter before the point
// is an initial.
int64_t CountSentences(const std::string& text) {
  static const re2::RE2 kEnd(R"((?:[^\s.!?][^\s.!?]|[)\]"'\d])[.!?]+["')\]]*(?:\s|$))");
  const std::string_view trimmed = Trimmed(text);
  if (trimmed.empty()) return 0;
  const int64_t ends = CountMatches(trimmed, kEnd);
  const size_t last = trimmed.find_last_not_of("\"')] ");
  const bool closed =
      last != trimmed.npos && std::string_view(".!?").find(trimmed[last]) != std::string_view::npos;
  return std::max<int64_t>(1, ends + (closed ? 0 : 1));
}

absl::StatusOr<bool> Existence(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const Texts keywords, NeedTexts(a, "keywords"));
  for (const std::string& keyword : keywords) {
    ASSIGN_OR_RETURN(const auto pattern, Compile(keyword, true));
    if (!re2::RE2::PartialMatch(text, *pattern)) return false;
  }
  return true;
}

absl::StatusOr<bool> Frequency(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const std::string keyword, NeedText(a, "keyword"));
  ASSIGN_OR_RETURN(const auto pattern, Compile(std::string(Trimmed(keyword)), true));
  return Relates(CountMatches(text, *pattern), a, "frequency", "relation");
}

absl::StatusOr<bool> Forbidden(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const Texts words, NeedTexts(a, "forbidden_words"));
  for (const std::string& word : words) {
    ASSIGN_OR_RETURN(const auto pattern, Compile("\\b" + word + "\\b", true));
    if (re2::RE2::PartialMatch(text, *pattern)) return false;
  }
  return true;
}

absl::StatusOr<bool> LetterFrequency(const std::string& text, const Json& a,
                                     const LanguageDetector&) {
  ASSIGN_OR_RETURN(const std::string letter, NeedText(a, "letter"));
  ASSIGN_OR_RETURN(const auto pattern, Compile(re2::RE2::QuoteMeta(letter), true));
  return Relates(CountMatches(text, *pattern), a, "let_frequency", "let_relation");
}

absl::StatusOr<bool> ResponseLanguage(const std::string& text, const Json& a,
                                      const LanguageDetector& detector) {
  ASSIGN_OR_RETURN(const std::string code, NeedText(a, "language"));
  const std::optional<std::string> wanted = detector.NameOf(code);
  if (!wanted) {
    return absl::InvalidArgumentError("language '" + code +
                                      "' has no script of its own: set reward.language_model");
  }
  const std::optional<std::string> found = detector.Detect(text);
  return !found || *found == *wanted;
}

absl::StatusOr<bool> Sentences(const std::string& text, const Json& a, const LanguageDetector&) {
  return Relates(CountSentences(text), a, "num_sentences", "relation");
}

absl::StatusOr<bool> Paragraphs(const std::string& text, const Json& a, const LanguageDetector&) {
  static const re2::RE2 kSeparator(R"((\s?\*\*\*\s?))");
  ASSIGN_OR_RETURN(const int64_t wanted, NeedNumber(a, "num_paragraphs"));
  const Texts parts = Split(text, kSeparator);
  int64_t count = static_cast<int64_t>(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!Trimmed(parts[i]).empty()) continue;
    if (i != 0 && i + 1 != parts.size()) return false;
    --count;
  }
  return count == wanted;
}

absl::StatusOr<bool> Words(const std::string& text, const Json& a, const LanguageDetector&) {
  return Relates(CountWords(text), a, "num_words", "relation");
}

absl::StatusOr<bool> NthParagraph(const std::string& text, const Json& a, const LanguageDetector&) {
  static const re2::RE2 kSeparator(R"((\n\n))");
  ASSIGN_OR_RETURN(const int64_t wanted, NeedNumber(a, "num_paragraphs"));
  ASSIGN_OR_RETURN(const int64_t nth, NeedNumber(a, "nth_paragraph"));
  ASSIGN_OR_RETURN(const std::string first_word, NeedText(a, "first_word"));
  const Texts parts = Split(text, kSeparator);
  const int64_t count = std::count_if(
      parts.begin(), parts.end(), [](const std::string& part) { return !Trimmed(part).empty(); });
  if (nth < 1 || nth > count) return false;
  std::string_view word = Trimmed(parts[static_cast<size_t>(nth) - 1]);
  word = word.substr(0, word.find_first_of(" \t\n"));
  word.remove_prefix(std::min(word.find_first_not_of("'\""), word.size()));
  word = word.substr(0, word.find_first_of(".,?!'\""));
  return count == wanted && !word.empty() && Lowered(word) == Lowered(first_word);
}

absl::StatusOr<bool> Placeholders(const std::string& text, const Json& a, const LanguageDetector&) {
  static const re2::RE2 kPlaceholder(R"(\[.*?\])");
  ASSIGN_OR_RETURN(const int64_t wanted, NeedNumber(a, "num_placeholders"));
  return CountMatches(text, kPlaceholder) >= wanted;
}

absl::StatusOr<bool> Postscript(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const std::string raw, NeedText(a, "postscript_marker"));
  const std::string marker(Trimmed(raw));
  const std::string pattern = marker == "P.P.S"  ? R"(p\.\s?p\.\s?s)"
                              : marker == "P.S." ? R"(p\.\s?s\.)"
                                                 : re2::RE2::QuoteMeta(Lowered(marker));
  ASSIGN_OR_RETURN(const auto compiled, Compile(pattern, true));
  return re2::RE2::PartialMatch(text, *compiled);
}

absl::StatusOr<bool> Bullets(const std::string& text, const Json& a, const LanguageDetector&) {
  static const re2::RE2 kStars(R"((?m)^[ \t]*\*[^*\n][^\n]*$)"), kDashes(R"((?m)^[ \t]*-[^\n]*$)");
  ASSIGN_OR_RETURN(const int64_t wanted, NeedNumber(a, "num_bullets"));
  return CountMatches(text, kStars) + CountMatches(text, kDashes) == wanted;
}

absl::StatusOr<bool> Constrained(const std::string& text, const Json&, const LanguageDetector&) {
  for (const char* option : {"My answer is yes.", "My answer is no.", "My answer is maybe."}) {
    if (text.find(option) != text.npos) return true;
  }
  return false;
}

absl::StatusOr<bool> Highlights(const std::string& text, const Json& a, const LanguageDetector&) {
  static const re2::RE2 kSingle(R"((\*[^\n*]*\*))"), kDouble(R"((\*\*[^\n*]*\*\*))");
  ASSIGN_OR_RETURN(const int64_t wanted, NeedNumber(a, "num_highlights"));
  int64_t count = 0;
  for (const re2::RE2* pattern : {&kSingle, &kDouble}) {
    re2::StringPiece rest(text), match;
    while (re2::RE2::FindAndConsume(&rest, *pattern, &match)) {
      std::string inside = match.ToString();
      std::erase(inside, '*');
      count += !Trimmed(inside).empty();
    }
  }
  return count >= wanted;
}

absl::StatusOr<bool> Sections(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const std::string splitter, NeedText(a, "section_spliter"));
  ASSIGN_OR_RETURN(const int64_t wanted, NeedNumber(a, "num_sections"));
  ASSIGN_OR_RETURN(const auto pattern, Compile("(\\s?" + splitter + "\\s?\\d+\\s?)", false));
  return CountMatches(text, *pattern) >= wanted;
}

absl::StatusOr<bool> JsonFormat(const std::string& text, const Json&, const LanguageDetector&) {
  std::string_view document = Trimmed(text);
  for (std::string_view fence : {"```json", "```Json", "```JSON", "```"}) {
    if (document.starts_with(fence)) document.remove_prefix(fence.size());
  }
  if (document.ends_with("```")) document.remove_suffix(3);
  return Json::accept(document);
}

absl::StatusOr<bool> Title(const std::string& text, const Json&, const LanguageDetector&) {
  static const re2::RE2 kTitle(R"(<<([^\n]+)>>)");
  re2::StringPiece rest(text), match;
  while (re2::RE2::FindAndConsume(&rest, kTitle, &match)) {
    std::string inside = match.ToString();
    std::erase_if(inside, [](char c) { return c == '<' || c == '>'; });
    if (!Trimmed(inside).empty()) return true;
  }
  return false;
}

absl::StatusOr<bool> TwoResponses(const std::string& text, const Json&, const LanguageDetector&) {
  static const re2::RE2 kSeparator(R"((\*\*\*\*\*\*))");
  const Texts parts = Split(text, kSeparator);
  Texts valid;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string_view part = Trimmed(parts[i]);
    if (!part.empty()) {
      valid.emplace_back(part);
    } else if (i != 0 && i + 1 != parts.size()) {
      return false;
    }
  }
  return valid.size() == 2 && valid[0] != valid[1];
}

absl::StatusOr<bool> RepeatPrompt(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const std::string prompt, NeedText(a, "prompt_to_repeat"));
  return Lowered(Trimmed(text)).starts_with(Lowered(Trimmed(prompt)));
}

absl::StatusOr<bool> EndPhrase(const std::string& text, const Json& a, const LanguageDetector&) {
  ASSIGN_OR_RETURN(const std::string phrase, NeedText(a, "end_phrase"));
  std::string_view value = Trimmed(text);
  while (value.ends_with('"')) value.remove_suffix(1);
  return Lowered(value).ends_with(Lowered(Trimmed(phrase)));
}

absl::StatusOr<bool> Quotation(const std::string& text, const Json&, const LanguageDetector&) {
  const std::string_view value = Trimmed(text);
  return value.size() > 1 && value.front() == '"' && value.back() == '"';
}

absl::StatusOr<bool> CapitalWords(const std::string& text, const Json& a, const LanguageDetector&) {
  static const re2::RE2 kWord(R"(([\pL\pN_'-]+))"), kUpper(R"(\p{Lu})"), kLower(R"(\p{Ll})");
  re2::StringPiece rest(text), word;
  int64_t count = 0;
  while (re2::RE2::FindAndConsume(&rest, kWord, &word)) {
    count += re2::RE2::PartialMatch(word, kUpper) && !re2::RE2::PartialMatch(word, kLower);
  }
  return Relates(count, a, "capital_frequency", "capital_relation");
}

// All letters of one case, in English as far as the detector can tell.
absl::StatusOr<bool> OneCase(const std::string& text, const char* forbidden, const char* needed,
                             const LanguageDetector& detector) {
  if (re2::RE2::PartialMatch(text, forbidden) || !re2::RE2::PartialMatch(text, needed))
    return false;
  if (!detector.has_model()) return detector.Detect(text).value_or("latin") == "latin";
  return detector.Detect(Lowered(text)).value_or("en") == "en";
}

absl::StatusOr<bool> EnglishCapital(const std::string& text, const Json&,
                                    const LanguageDetector& detector) {
  return OneCase(text, R"(\p{Ll})", R"(\p{Lu})", detector);
}

absl::StatusOr<bool> EnglishLower(const std::string& text, const Json&,
                                  const LanguageDetector& detector) {
  return OneCase(text, R"(\p{Lu})", R"(\p{Ll})", detector);
}

absl::StatusOr<bool> NoComma(const std::string& text, const Json&, const LanguageDetector&) {
  return text.find(',') == text.npos;
}

const std::map<std::string, Check>& Checks() {
  static const std::map<std::string, Check> checks = {
      {"keywords:existence", Existence},
      {"keywords:frequency", Frequency},
      {"keywords:forbidden_words", Forbidden},
      {"keywords:letter_frequency", LetterFrequency},
      {"language:response_language", ResponseLanguage},
      {"length_constraints:number_sentences", Sentences},
      {"length_constraints:number_paragraphs", Paragraphs},
      {"length_constraints:number_words", Words},
      {"length_constraints:nth_paragraph_first_word", NthParagraph},
      {"detectable_content:number_placeholders", Placeholders},
      {"detectable_content:postscript", Postscript},
      {"detectable_format:number_bullet_lists", Bullets},
      {"detectable_format:constrained_response", Constrained},
      {"detectable_format:number_highlighted_sections", Highlights},
      {"detectable_format:multiple_sections", Sections},
      {"detectable_format:json_format", JsonFormat},
      {"detectable_format:title", Title},
      {"combination:two_responses", TwoResponses},
      {"combination:repeat_prompt", RepeatPrompt},
      {"startend:end_checker", EndPhrase},
      {"startend:quotation", Quotation},
      {"change_case:capital_word_frequency", CapitalWords},
      {"change_case:english_capital", EnglishCapital},
      {"change_case:english_lowercase", EnglishLower},
      {"punctuation:no_comma", NoComma}};
  return checks;
}

}  // namespace

std::vector<std::string> InstructionIds() {
  std::vector<std::string> ids;
  for (const auto& [id, check] : Checks()) ids.push_back(id);
  return ids;
}

absl::StatusOr<bool> Follows(const std::string& text, const std::string& id, const Json& arguments,
                             const LanguageDetector& detector) {
  const auto it = Checks().find(id);
  if (it != Checks().end()) return it->second(text, arguments, detector);
  std::string known;
  for (const auto& [name, check] : Checks()) known += (known.empty() ? "" : ", ") + name;
  return absl::InvalidArgumentError("no instruction is named '" + id + "'; there are: " + known);
}

}  // namespace tramontane
