#include "verifier/table_grader.h"

#include <utility>

#include "common/clock.h"
#include "common/hash.h"
#include "verifier/format_gate.h"
#include "verifier/reward_table.h"

namespace tramontane {
namespace {

constexpr size_t kMaxExtractedBytes = 256;

// Verdicts are kept with every rollout: a megabyte of answer is not. Cuts between characters.
std::string Shortened(const std::string& text) {
  if (text.size() <= kMaxExtractedBytes) return text;
  size_t end = kMaxExtractedBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

std::string Digest(const AnswerRule& rule, const RewardSection& reward) {
  const Json config = {{"name", rule.name},
                       {"version", rule.version},
                       {"format", reward.format},
                       {"correct", reward.correct},
                       {"language", reward.language},
                       {"length_penalty", reward.length_penalty},
                       {"length_max_tokens", reward.length_max_tokens},
                       {"length_cache_tokens", reward.length_cache_tokens},
                       {"think_open", reward.think_open},
                       {"think_close", reward.think_close},
                       {"require_think", reward.require_think}};
  return Sha256Hex(config.dump());
}

}  // namespace

TableGrader::TableGrader(AnswerRule rule, RewardSection reward)
    : rule_(std::move(rule)), reward_(std::move(reward)), digest_(Digest(rule_, reward_)) {}

Verdict TableGrader::Stamped() const {
  Verdict verdict;
  verdict.verifier = rule_.name;
  verdict.verifier_version = rule_.version;
  verdict.verifier_digest = digest_;
  return verdict;
}

Verdict TableGrader::Grade(const GradeRequest& request) const {
  const auto start = std::chrono::steady_clock::now();
  Verdict verdict = Stamped();
  const FormatCheck check = CheckFormat(request.completion, reward_);
  verdict.correct = check.boxed && rule_.same(request.answer, *check.boxed);
  if (check.boxed) verdict.extracted = Shortened(*check.boxed);
  ApplyRewardTable(check.passed, verdict.correct, request.completion_tokens, reward_, verdict);
  if (!check.passed) {
    verdict.feedback = "format: " + check.reason;
  } else {
    verdict.feedback = verdict.correct ? "correct" : "differs from the gold answer";
  }
  verdict.exec_seconds = SecondsSince(start);
  return verdict;
}

Verdict TableGrader::GradeAnswer(const std::string& answer, const std::string& gold) const {
  const auto start = std::chrono::steady_clock::now();
  Verdict verdict = Stamped();
  verdict.status = VerdictStatus::kScored;
  verdict.correct = rule_.same(gold, LastBoxed(answer).value_or(answer));
  verdict.extracted = Shortened(LastBoxed(answer).value_or(answer));
  verdict.score = verdict.correct ? 1.0 : 0.0;
  verdict.components = {{"accuracy", *verdict.score}};
  verdict.feedback = verdict.correct ? "correct" : "differs from the gold answer";
  verdict.exec_seconds = SecondsSince(start);
  return verdict;
}

absl::Status TableGrader::CheckAnswer(const std::string& answer) const {
  return rule_.check_gold(answer);
}

std::vector<std::string> TableGrader::components() const { return RewardComponents(reward_); }
double TableGrader::min_score() const { return MinReward(reward_); }
double TableGrader::max_score() const { return MaxReward(reward_); }

}  // namespace tramontane
