#include "verifier/reward_grader.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/clock.h"
#include "common/hash.h"
#include "common/status.h"
#include "verifier/format_gate.h"
#include "verifier/reward_table.h"

namespace tramontane {
namespace {

constexpr size_t kMaxExtractedBytes = 256;

// Verdicts are kept with every rollout: a megabyte of answer is not. Cuts between characters.
std::string Shortened(std::string text) {
  if (text.size() <= kMaxExtractedBytes) return text;
  size_t end = kMaxExtractedBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

std::string Digest(const std::string& name, const std::string& version, const RewardSection& reward,
                   const Json& surroundings) {
  Json config = {{"name", name},
                 {"version", version},
                 {"format", reward.format},
                 {"correct", reward.correct},
                 {"language", reward.language},
                 {"length_penalty", reward.length_penalty},
                 {"length_max_tokens", reward.length_max_tokens},
                 {"length_cache_tokens", reward.length_cache_tokens},
                 {"think_open", reward.think_open},
                 {"think_close", reward.think_close},
                 {"require_think", reward.require_think},
                 {"require_boxed", reward.require_boxed},
                 {"gate", reward.gate},
                 {"terms", reward.terms}};
  config.update(surroundings);
  return Sha256Hex(config.dump());
}

void Stamp(const Grader& grader, Verdict& verdict) {
  verdict.verifier = grader.name();
  verdict.verifier_version = grader.version();
  verdict.verifier_digest = grader.digest();
}

// No reward is made up, whoever is at fault.
Verdict Unjudged(const absl::Status& status) {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  verdict.fault = absl::IsInvalidArgument(status) ? Fault::kRow
                  : absl::IsUnavailable(status)   ? Fault::kSandbox
                                                  : Fault::kVerifier;
  verdict.feedback = std::string(status.message());
  return verdict;
}

absl::StatusOr<Judgement> Apply(const AnswerRule& rule, const std::string& text,
                                const GradeRequest& request) {
  return rule.Judge(text, request.answer, request.params, request.stop);
}

absl::StatusOr<Judged> Judge(const GradeRequest& request, const AnswerRule& rule,
                             const RewardSection& reward) {
  Judged judged;
  judged.request = &request;
  judged.format = CheckFormat(request.completion, reward, rule.boxed);
  const bool must_be_boxed = rule.boxed && reward.require_boxed;
  if (judged.format.answer && (judged.format.boxed || !must_be_boxed)) {
    ASSIGN_OR_RETURN(judged.judgement, Apply(rule, *judged.format.answer, request));
  }
  return judged;
}

std::string FeedbackOn(const Judged& judged) {
  if (!judged.format.passed) return "format: " + judged.format.reason;
  return judged.judgement.feedback;
}

// A number of the reward table by its name in a configuration; null: there is none of that name.
double* TableNumber(RewardSection& reward, const std::string& name) {
  return name == "format"           ? &reward.format
         : name == "correct"        ? &reward.correct
         : name == "language"       ? &reward.language
         : name == "length_penalty" ? &reward.length_penalty
                                    : nullptr;
}

// The reward as it is weighed now. InvalidArgument: of a part that it does not have.
absl::Status Reweigh(const std::map<std::string, double>& weights, RewardSection& reward,
                     std::vector<RewardTerm>& terms) {
  for (const auto& [name, weight] : weights) {
    const auto term = std::ranges::find(terms, name, &RewardTerm::name);
    double* const number = reward.terms.empty() ? TableNumber(reward, name) : nullptr;
    const bool known = number != nullptr || (!reward.terms.empty() && term != terms.end());
    if (!known || !std::isfinite(weight)) {
      return absl::InvalidArgumentError("reward_weights: '" + name +
                                        "' is no part of this verifier's reward, or not finite");
    }
    (number != nullptr ? *number : term->weight) = weight;
  }
  return absl::OkStatus();
}

// Σ weight · term behind the gate.
void ApplyTerms(const std::vector<RewardTerm>& terms, const std::vector<double>& values, bool gated,
                Verdict& verdict) {
  verdict.status = VerdictStatus::kScored;
  double score = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const double part = gated ? 0 : terms[i].weight * values[i];
    verdict.components[terms[i].name] = part;
    score += part;
  }
  verdict.score = score;
}

// values[sample][term]
std::vector<std::vector<double>> TermValues(const std::vector<RewardTerm>& terms,
                                            const std::vector<Judged>& group) {
  std::vector<std::vector<double>> values(group.size(), std::vector<double>(terms.size(), 0));
  for (size_t t = 0; t < terms.size(); ++t) {
    const std::vector<double> of_group =
        terms[t].group ? terms[t].of_group(group) : std::vector<double>();
    for (size_t i = 0; i < group.size(); ++i) {
      values[i][t] = terms[t].group ? of_group[i] : terms[t].sample(group[i]);
    }
  }
  return values;
}

// Only the settings that leave the range as it is described: rows bring other keys as well.
Json SettingsIn(const Json& params) {
  static const char* const kKeys[] = {"easy_above",
                                      "fade_from_tokens",
                                      "max_tokens",
                                      "wrong_until_tokens",
                                      "cache_tokens",
                                      "form",
                                      "target",
                                      "scope",
                                      "n",
                                      "most"};
  Json settings = Json::object();
  if (!params.is_object()) return settings;
  for (const char* key : kKeys) {
    if (params.contains(key)) settings[key] = params[key];
  }
  return settings;
}

// What must be set at the least.
Json LeastSettings(const std::string& name) {
  if (name == "soft_overlong") return {{"max_tokens", 1}, {"cache_tokens", 1}};
  return Json::object();
}

}  // namespace

std::vector<Verdict> Grader::GradeGroup(const std::vector<GradeRequest>& requests) const {
  std::vector<Verdict> verdicts;
  for (const GradeRequest& request : requests) verdicts.push_back(Grade(request));
  return verdicts;
}

RewardGrader::RewardGrader(AnswerRule rule, RewardSection reward, std::vector<RewardTerm> terms,
                           const Json& surroundings)
    : rule_(std::move(rule)),
      reward_(std::move(reward)),
      terms_(std::move(terms)),
      digest_(Digest(rule_.name, rule_.version, reward_, surroundings)) {}

Verdict RewardGrader::Grade(const GradeRequest& request) const { return GradeGroup({request})[0]; }

std::vector<Verdict> RewardGrader::GradeGroup(const std::vector<GradeRequest>& requests) const {
  if (!requests.empty() && !requests.front().reward_weights.empty()) {
    RewardSection reward = reward_;
    std::vector<RewardTerm> terms = terms_;
    if (const absl::Status status = Reweigh(requests.front().reward_weights, reward, terms);
        !status.ok()) {
      std::vector<Verdict> refused(requests.size(), Unjudged(status));
      for (Verdict& verdict : refused) Stamp(*this, verdict);
      return refused;
    }
    return GradeGroup(requests, reward, terms);
  }
  return GradeGroup(requests, reward_, terms_);
}

std::vector<Verdict> RewardGrader::GradeGroup(const std::vector<GradeRequest>& requests,
                                              const RewardSection& reward,
                                              const std::vector<RewardTerm>& terms) const {
  std::vector<Verdict> verdicts(requests.size());
  std::vector<Judged> judged;
  std::vector<size_t> places;
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    absl::StatusOr<Judged> one = Judge(requests[i], rule_, reward);
    if (one.ok()) {
      judged.push_back(*std::move(one));
      places.push_back(i);
    } else {
      verdicts[i] = Unjudged(one.status());
    }
    verdicts[i].exec_seconds = SecondsSince(start);
  }
  const std::vector<std::vector<double>> values = TermValues(terms, judged);
  for (size_t j = 0; j < judged.size(); ++j) {
    Verdict& verdict = verdicts[places[j]];
    const auto start = std::chrono::steady_clock::now();
    verdict.correct = judged[j].judgement.correct;
    verdict.extracted = Shortened(judged[j].judgement.extracted);
    verdict.feedback = FeedbackOn(judged[j]);
    if (reward.terms.empty()) {
      const double language = terms.empty() ? 0 : values[j][0];
      ApplyRewardTable(judged[j].format.passed, judged[j].judgement.share, language,
                       requests[places[j]].completion_tokens, reward, verdict);
    } else {
      ApplyTerms(terms, values[j], reward.gate && !judged[j].format.passed, verdict);
    }
    verdict.exec_seconds += SecondsSince(start);
  }
  for (Verdict& verdict : verdicts) Stamp(*this, verdict);
  return verdicts;
}

Verdict RewardGrader::GradeBare(const GradeRequest& request) const {
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<Judgement> judgement = Apply(rule_, request.completion, request);
  Verdict verdict;
  if (judgement.ok()) {
    verdict.status = VerdictStatus::kScored;
    verdict.correct = judgement->correct;
    verdict.extracted = Shortened(std::move(judgement->extracted));
    verdict.feedback = std::move(judgement->feedback);
    verdict.score = judgement->share;
    verdict.components = {{"accuracy", judgement->share}};
  } else {
    verdict = Unjudged(judgement.status());
  }
  Stamp(*this, verdict);
  verdict.exec_seconds = SecondsSince(start);
  return verdict;
}

absl::Status RewardGrader::CheckRow(const std::string& answer, const Json& params) const {
  return rule_.check_row(answer, params);
}

bool RewardGrader::group_aware() const {
  return std::any_of(terms_.begin(), terms_.end(),
                     [](const RewardTerm& term) { return term.group; });
}

std::vector<std::string> RewardGrader::components() const {
  if (reward_.terms.empty()) return RewardComponents(reward_);
  std::vector<std::string> names;
  for (const RewardTerm& term : terms_) names.push_back(term.name);
  return names;
}

double RewardGrader::min_score() const {
  if (reward_.terms.empty()) return MinReward(reward_);
  double low = 0;
  for (const RewardTerm& term : terms_) {
    low += std::min(term.weight * term.low, term.weight * term.high);
  }
  return reward_.gate ? std::min(0.0, low) : low;
}

double RewardGrader::max_score() const {
  if (reward_.terms.empty()) return MaxReward(reward_);
  double high = 0;
  for (const RewardTerm& term : terms_) {
    high += std::max(term.weight * term.low, term.weight * term.high);
  }
  return reward_.gate ? std::max(0.0, high) : high;
}

TermGrader::TermGrader(std::string name, AnswerRule rule, RewardSection reward,
                       std::shared_ptr<const LanguageDetector> detector)
    : name_(std::move(name)),
      rule_(std::move(rule)),
      reward_(std::move(reward)),
      detector_(std::move(detector)),
      example_(*MakeTerm(name_, LeastSettings(name_), detector_)),
      digest_(Digest(name_, version(), reward_, {{"language_model", detector_->digest()}})) {}

Verdict TermGrader::Grade(const GradeRequest& request) const { return GradeGroup({request})[0]; }

std::vector<Verdict> TermGrader::GradeGroup(const std::vector<GradeRequest>& requests) const {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Verdict> verdicts(requests.size());
  const absl::StatusOr<RewardTerm> term =
      MakeTerm(name_, SettingsIn(requests.empty() ? Json() : requests[0].params), detector_);
  std::vector<Judged> judged(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    judged[i].request = &requests[i];
    judged[i].format = CheckFormat(requests[i].completion, reward_, rule_.boxed);
    // Terms that ask for no accuracy need no gold answer.
    if (judged[i].format.answer && !requests[i].answer.empty()) {
      auto judgement = rule_.Judge(*judged[i].format.answer, requests[i].answer, Json::object());
      if (judgement.ok()) judged[i].judgement = *std::move(judgement);
    }
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!term.ok()) verdicts[i] = Unjudged(term.status());
  }
  if (term.ok()) {
    const std::vector<std::vector<double>> values = TermValues({*term}, judged);
    for (size_t i = 0; i < requests.size(); ++i) {
      ApplyTerms({*term}, values[i], /*gated=*/false, verdicts[i]);
      verdicts[i].correct =
          requests[i].answer.empty() ? values[i][0] >= term->high : judged[i].judgement.correct;
      verdicts[i].extracted = Shortened(judged[i].judgement.extracted);
      verdicts[i].feedback = name_ + ": " + judged[i].format.reason;
    }
  }
  const double seconds =
      SecondsSince(start) / static_cast<double>(std::max<size_t>(1, requests.size()));
  for (Verdict& verdict : verdicts) {
    Stamp(*this, verdict);
    verdict.exec_seconds = seconds;
  }
  return verdicts;
}

absl::Status TermGrader::CheckRow(const std::string& answer, const Json& params) const {
  RETURN_IF_ERROR(MakeTerm(name_, SettingsIn(params), detector_).status());
  static const char* const kNeedGold[] = {"adactrl", "cosine", "kimi_length"};
  for (const char* name : kNeedGold) {
    if (name_ == name) return rule_.check_row(answer, Json::object());
  }
  return absl::OkStatus();
}

}  // namespace tramontane
