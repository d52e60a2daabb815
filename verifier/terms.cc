#include "verifier/terms.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/status.h"
#include "verifier/rules/params.h"
#include "verifier/term_values.h"

namespace tramontane {
namespace {

using Detector = std::shared_ptr<const LanguageDetector>;

enum class Scope { kAll, kThink, kAnswer };

std::string Scoped(const Judged& judged, Scope scope) {
  switch (scope) {
    case Scope::kThink: return judged.format.thoughts;
    case Scope::kAnswer: return judged.format.answer.value_or("");
    case Scope::kAll: return judged.request->completion;
  }
  return "";
}

absl::StatusOr<Scope> ReadScope(const Json& settings) {
  ASSIGN_OR_RETURN(const std::string scope,
                   ChoiceParam(settings, "scope", {"all", "think", "answer"}));
  return scope == "think" ? Scope::kThink : scope == "answer" ? Scope::kAnswer : Scope::kAll;
}

// A whole number that must be given.
absl::StatusOr<int32_t> Tokens(const Json& settings, const std::string& key, double fallback) {
  ASSIGN_OR_RETURN(const double value, NumberParam(settings, key, fallback));
  if (!(value > 0 && value < 1e9)) {
    return absl::InvalidArgumentError("params." + key + ": must be a positive number of tokens");
  }
  return static_cast<int32_t>(value);
}

absl::StatusOr<RewardTerm> Accuracy(const Json& settings, const Detector&) {
  RewardTerm term;
  ASSIGN_OR_RETURN(const double right, NumberParam(settings, "right", 1));
  ASSIGN_OR_RETURN(const double wrong, NumberParam(settings, "wrong", 0));
  term.low = std::min(right, wrong);
  term.high = std::max(right, wrong);
  term.sample = [right, wrong](const Judged& judged) {
    return wrong + (right - wrong) * judged.judgement.share;
  };
  return term;
}

absl::StatusOr<RewardTerm> Format(const Json&, const Detector&) {
  RewardTerm term;
  term.sample = [](const Judged& judged) { return judged.format.passed ? 1.0 : 0.0; };
  return term;
}

// match: prompt, thoughts and answer are in one language (Magistral §2.2.3). proportion: the share
// of words in the prompt's language, or in `target` (DeepSeek-R1 §2.3.2: of the thoughts).
absl::StatusOr<RewardTerm> Language(const Json& settings, const Detector& detector) {
  RewardTerm term;
  ASSIGN_OR_RETURN(const std::string form, ChoiceParam(settings, "form", {"match", "proportion"}));
  ASSIGN_OR_RETURN(const std::string code, TextParam(settings, "target", ""));
  ASSIGN_OR_RETURN(const Scope scope, ReadScope(settings));
  std::optional<std::string> target;
  if (!code.empty()) {
    target = detector->NameOf(code);
    if (!target) {
      return absl::InvalidArgumentError("params.target: '" + code + "' has no script of its own: set "
                                        "reward.language_model");
    }
  }
  term.sample = [form, scope, target, detector](const Judged& judged) -> double {
    const std::optional<std::string> wanted =
        target ? target : detector->Detect(judged.request->prompt);
    if (form == "proportion") {
      return wanted ? detector->Proportion(Scoped(judged, scope), *wanted) : 1;
    }
    std::optional<std::string> common = wanted;
    for (const std::string& part : {judged.format.thoughts, judged.format.answer.value_or("")}) {
      const std::optional<std::string> found = detector->Detect(part);
      if (found && common && *found != *common) return 0;
      if (found) common = found;
    }
    return 1;
  };
  return term;
}

absl::StatusOr<RewardTerm> Overlong(const Json& settings, const Detector&) {
  RewardTerm term;
  ASSIGN_OR_RETURN(const int32_t max_tokens, Tokens(settings, "max_tokens", 0));
  ASSIGN_OR_RETURN(const int32_t cache_tokens, Tokens(settings, "cache_tokens", 0));
  if (cache_tokens > max_tokens) {
    return absl::InvalidArgumentError("params.cache_tokens: must not exceed max_tokens");
  }
  term.low = -1;
  term.high = 0;
  term.sample = [max_tokens, cache_tokens](const Judged& judged) {
    return SoftOverlong(judged.request->completion_tokens, max_tokens, cache_tokens);
  };
  return term;
}

absl::StatusOr<RewardTerm> CosineTerm(const Json& settings, const Detector&) {
  RewardTerm term;
  CosineLengths lengths;
  ASSIGN_OR_RETURN(lengths.fade_from_tokens,
                   Tokens(settings, "fade_from_tokens", lengths.fade_from_tokens));
  ASSIGN_OR_RETURN(lengths.max_tokens, Tokens(settings, "max_tokens", lengths.max_tokens));
  ASSIGN_OR_RETURN(lengths.wrong_until_tokens,
                   Tokens(settings, "wrong_until_tokens", lengths.wrong_until_tokens));
  if (lengths.fade_from_tokens >= lengths.max_tokens) {
    return absl::InvalidArgumentError("params.fade_from_tokens: must be below max_tokens");
  }
  term.low = -1;
  term.sample = [lengths](const Judged& judged) {
    return CosineReward(judged.judgement.correct, judged.request->completion_tokens,
                        judged.request->finish_reason != FinishReason::kLength &&
                            judged.request->finish_reason != FinishReason::kRepetition,
                        judged.format.tags_in_order, lengths);
  };
  return term;
}

// What a sample is worth for how it ended, besides what it says.
absl::StatusOr<RewardTerm> Unfinished(const Json& settings, const Detector&) {
  RewardTerm term;
  ASSIGN_OR_RETURN(const double repetition, NumberParam(settings, "repetition", -1));
  ASSIGN_OR_RETURN(const double length, NumberParam(settings, "length", 0));
  if (!std::isfinite(repetition)) {
    return absl::InvalidArgumentError("params.repetition: must be finite");
  }
  if (!std::isfinite(length)) return absl::InvalidArgumentError("params.length: must be finite");
  term.low = std::min({0.0, repetition, length});
  term.high = std::max({0.0, repetition, length});
  term.sample = [repetition, length](const Judged& judged) {
    switch (judged.request->finish_reason) {
      case FinishReason::kRepetition:
        return repetition;
      case FinishReason::kLength:
        return length;
      default:
        return 0.0;
    }
  };
  return term;
}

absl::StatusOr<RewardTerm> Repetition(const Json& settings, const Detector&) {
  RewardTerm term;
  ASSIGN_OR_RETURN(const double n, NumberParam(settings, "n", 5));
  ASSIGN_OR_RETURN(const double most, NumberParam(settings, "most", 5));
  ASSIGN_OR_RETURN(const Scope scope, ReadScope(settings));
  if (!(n >= 1 && n <= 64)) return absl::InvalidArgumentError("params.n: must be between 1 and 64");
  term.low = -1;
  term.high = 0;
  term.sample = [n, most, scope](const Judged& judged) {
    return RepetitionPenalty(Scoped(judged, scope), static_cast<int>(n), static_cast<int>(most));
  };
  return term;
}

absl::StatusOr<RewardTerm> Kimi(const Json&, const Detector&) {
  RewardTerm term;
  term.group = true;
  term.low = -0.5;
  term.high = 0.5;
  term.of_group = [](const std::vector<Judged>& group) {
    std::vector<int32_t> tokens;
    std::vector<bool> correct;
    for (const Judged& judged : group) {
      tokens.push_back(judged.request->completion_tokens);
      correct.push_back(judged.judgement.correct);
    }
    return KimiLength(tokens, correct);
  };
  return term;
}

absl::StatusOr<RewardTerm> AdaCtrlTerm(const Json& settings, const Detector&) {
  RewardTerm term;
  AdaCtrlSettings values;
  ASSIGN_OR_RETURN(values.easy_above, NumberParam(settings, "easy_above", values.easy_above));
  ASSIGN_OR_RETURN(values.length_weight,
                   NumberParam(settings, "length_weight", values.length_weight));
  ASSIGN_OR_RETURN(values.tag_weight, NumberParam(settings, "tag_weight", values.tag_weight));
  term.group = true;
  term.high = 1 + std::fabs(values.length_weight) + std::fabs(values.tag_weight);
  term.low = -term.high;
  term.of_group = [values](const std::vector<Judged>& group) {
    std::vector<AdaCtrlSample> samples;
    for (const Judged& judged : group) {
      samples.push_back({judged.judgement.correct, judged.request->completion_tokens,
                         TagOf(judged.request->completion)});
    }
    return AdaCtrl(samples, values);
  };
  return term;
}

using Maker = absl::StatusOr<RewardTerm> (*)(const Json&, const Detector&);
struct Entry {
  const char* name;
  Maker make;
  std::vector<std::string> fields;
};

const std::vector<Entry>& Entries() {
  static const std::vector<Entry> entries = {
      {"accuracy", Accuracy, {"right", "wrong"}},
      {"adactrl", AdaCtrlTerm, {"easy_above", "length_weight", "tag_weight"}},
      {"cosine", CosineTerm, {"fade_from_tokens", "max_tokens", "wrong_until_tokens"}},
      {"format", Format, {}},
      {"kimi_length", Kimi, {}},
      {"language", Language, {"form", "target", "scope"}},
      {"repetition", Repetition, {"n", "most", "scope"}},
      {"soft_overlong", Overlong, {"max_tokens", "cache_tokens"}},
      {"unfinished", Unfinished, {"repetition", "length"}}};
  return entries;
}

absl::Status CheckFields(const Entry& entry, const Json& settings) {
  for (const auto& [key, value] : settings.items()) {
    if (key == "term" || key == "weight") continue;
    if (std::find(entry.fields.begin(), entry.fields.end(), key) != entry.fields.end()) continue;
    std::string known = "term, weight";
    for (const std::string& field : entry.fields) known += ", " + field;
    return absl::InvalidArgumentError("params." + key + ": unknown field; there are: " + known);
  }
  return absl::OkStatus();
}

absl::StatusOr<RewardTerm> Build(const std::string& name, const Json& settings,
                                 const Detector& detector) {
  if (!settings.is_object()) return absl::InvalidArgumentError("params: must be a mapping");
  ASSIGN_OR_RETURN(const std::string kind, TextParam(settings, "term", name));
  const auto entry = std::find_if(Entries().begin(), Entries().end(),
                                  [&kind](const Entry& e) { return kind == e.name; });
  if (entry == Entries().end()) {
    std::string known;
    for (const std::string& term : TermNames()) known += (known.empty() ? "" : ", ") + term;
    return absl::NotFoundError("params.term: no term is named '" + kind + "'; there are: " + known);
  }
  RETURN_IF_ERROR(CheckFields(*entry, settings));
  ASSIGN_OR_RETURN(const double weight, NumberParam(settings, "weight", 1));
  if (!std::isfinite(weight)) return absl::InvalidArgumentError("params.weight: must be finite");
  ASSIGN_OR_RETURN(RewardTerm term, entry->make(settings, detector));
  term.name = name;
  term.weight = weight;
  return term;
}

}  // namespace

std::vector<std::string> TermNames() {
  std::vector<std::string> names;
  for (const Entry& entry : Entries()) names.emplace_back(entry.name);
  return names;
}

Json TermSchema(const std::string& name) {
  Json properties = Json::object();
  for (const Entry& entry : Entries()) {
    if (name != entry.name) continue;
    for (const std::string& field : entry.fields) {
      properties[field] = field == "scope"    ? OneOfSchema({"all", "think", "answer"})
                          : field == "form"   ? OneOfSchema({"match", "proportion"})
                          : field == "target" ? Json{{"type", "string"}}
                                              : Json{{"type", "number"}};
    }
  }
  return ParamsSchema(std::move(properties));
}

absl::StatusOr<RewardTerm> MakeTerm(const std::string& name, const Json& settings,
                                    std::shared_ptr<const LanguageDetector> detector) {
  absl::StatusOr<RewardTerm> term = Build(name, settings, detector);
  if (term.ok()) return term;
  // What params.h calls params.<key> is reward.terms.<name>.<key> here.
  std::string message(term.status().message());
  const std::string prefix = "params";
  if (message.starts_with(prefix)) message = message.substr(prefix.size());
  return absl::Status(term.status().code(), "reward.terms." + name + message);
}

}  // namespace tramontane
