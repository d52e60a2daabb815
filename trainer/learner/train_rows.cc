#include "trainer/learner/train_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "common/layers.h"
#include "common/sample_faults.h"
#include "common/status.h"

namespace tramontane {
namespace {

bool HasScore(const Verdict& verdict) {
  return verdict.score.has_value() && (verdict.status == VerdictStatus::kScored ||
                                       verdict.status == VerdictStatus::kPolicyFailure);
}

absl::Status CheckRollout(const Group& group, const Rollout& rollout) {
  int64_t stamped = 0;
  for (const VersionSpan& span : rollout.spans) stamped += span.count;
  if (!AreDisjointSpans(rollout.injected, rollout.tokens.size())) {
    return absl::InvalidArgumentError("group " + group.task.gid + ", sample " +
                                      std::to_string(rollout.sample_index) +
                                      ": spans of injected tokens overlap or leave the response");
  }
  if (rollout.logprobs.size() == rollout.tokens.size() &&
      stamped == static_cast<int64_t>(rollout.tokens.size())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "group " + group.task.gid + ", sample " + std::to_string(rollout.sample_index) + ": " +
      std::to_string(rollout.tokens.size()) + " tokens, " +
      std::to_string(rollout.logprobs.size()) + " log-probabilities, " + std::to_string(stamped) +
      " version stamps");
}

std::string NameOf(const Group& group, const Rollout& rollout) {
  return "group " + group.task.gid + ", sample " + std::to_string(rollout.sample_index) + ": ";
}

absl::Status CheckRoutes(const Group& group, const Rollout& rollout, const RowLimits& limits) {
  if (rollout.tokens.empty()) return absl::OkStatus();
  const size_t expected = (group.task.row.prompt_tokens.size() + rollout.tokens.size() - 1) *
                          static_cast<size_t>(limits.route_size);
  if (rollout.routes.size() != expected)
    return absl::InvalidArgumentError(NameOf(group, rollout) +
                                      "trainer.router_replay needs the experts of every token, " +
                                      std::to_string(expected) + " bytes, and there are " +
                                      std::to_string(rollout.routes.size()));
  const auto k = static_cast<size_t>(limits.experts_per_token);
  for (size_t begin = 0; begin < expected; begin += k) {
    const std::span chosen = std::span(rollout.routes).subspan(begin, k);
    const bool none = std::ranges::all_of(chosen, [](uint8_t e) { return e == kNoRoute; });
    const bool known = std::ranges::all_of(chosen, [&](uint8_t e) { return e < limits.experts; });
    if (!none && !known)
      return absl::InvalidArgumentError(NameOf(group, rollout) +
                                        "routes: names an expert that the model does not have");
  }
  return absl::OkStatus();
}

absl::Status AddCompletion(const std::vector<int32_t>& prompt,
                           const std::vector<int32_t>& completion, int64_t index, const char* what,
                           CollectedRows& collected) {
  if (prompt.empty() || completion.empty()) {
    return absl::InvalidArgumentError(what + std::to_string(index) +
                                      ": empty prompt or completion");
  }
  TrainRow row;
  row.prompt = prompt;
  row.response = completion;
  row.group = index;
  row.reward = 1;
  collected.rows.push_back(row);
  return absl::OkStatus();
}

// The response's tokens that are not learnt from: injected, or of a version before `oldest`.
std::vector<TokenSpan> NotLearnt(const Rollout& rollout, int64_t oldest) {
  std::vector<uint8_t> out(rollout.tokens.size(), 0);
  size_t t = 0;
  for (const VersionSpan& span : rollout.spans) {
    for (int32_t i = 0; i < span.count; ++i) out[t++] = span.version < oldest;
  }
  for (const TokenSpan& span : rollout.injected) {
    std::fill_n(out.begin() + span.begin, span.count, uint8_t{1});
  }
  std::vector<TokenSpan> spans;
  for (int32_t i = 0; i < static_cast<int32_t>(out.size()); ++i) {
    if (out[static_cast<size_t>(i)] == 0) continue;
    if (spans.empty() || spans.back().begin + spans.back().count != i) spans.push_back({i, 0});
    ++spans.back().count;
  }
  return spans;
}

bool IsMasked(const Rollout& rollout, const FilterConfig& filter) {
  return (filter.gibberish == "mask" && IsGibberish(rollout, filter)) ||
         (filter.repetition == "mask" && GoesRound(rollout, filter));
}

}  // namespace

absl::Status CheckGroup(const Group& group, const RowLimits& limits) {
  const int64_t vocab_size = limits.vocab_size;
  const auto known = [&](const std::vector<int32_t>& tokens) {
    return std::all_of(tokens.begin(), tokens.end(),
                       [&](int32_t t) { return 0 <= t && t < vocab_size; });
  };
  const std::vector<int32_t>& prompt = group.task.row.prompt_tokens;
  if (prompt.empty() || !known(prompt)) {
    return absl::InvalidArgumentError("group " + group.task.gid +
                                      ": the prompt is empty, or has tokens outside " +
                                      "the vocabulary of " + std::to_string(vocab_size));
  }
  for (const Rollout& rollout : group.rollouts) {
    if (!HasScore(rollout.verdict)) continue;
    RETURN_IF_ERROR(CheckRollout(group, rollout));
    if (!known(rollout.tokens)) {
      return absl::InvalidArgumentError(NameOf(group, rollout) +
                                        "a token is outside the vocabulary of " +
                                        std::to_string(vocab_size));
    }
    if (limits.route_size > 0) RETURN_IF_ERROR(CheckRoutes(group, rollout, limits));
  }
  return absl::OkStatus();
}

int64_t TrainRow::sampled_tokens() const {
  int64_t sampled = static_cast<int64_t>(response.size());
  for (const TokenSpan& span : injected) sampled -= span.count;
  return sampled;
}

absl::StatusOr<CollectedRows> CollectRows(const std::vector<Group>& groups,
                                          const FilterConfig& filter, int64_t version) {
  CollectedRows collected;
  const int64_t oldest = filter.segment_max_age_versions
                             ? version - *filter.segment_max_age_versions
                             : std::numeric_limits<int64_t>::min();
  int64_t parts = 0;  // of the groups before: what is compared apart has numbers of its own
  for (size_t g = 0; g < groups.size(); ++g) {
    const Group& group = groups[g];
    if (group.task.row.prompt_tokens.empty()) {
      return absl::InvalidArgumentError("group " + group.task.gid + ": empty prompt");
    }
    const int64_t first_part = parts;
    parts += PartsOf(group.task);
    for (const Rollout& rollout : group.rollouts) {
      if (!HasScore(rollout.verdict) || !std::isfinite(*rollout.verdict.score)) {
        ++collected.without_score;
        continue;
      }
      RETURN_IF_ERROR(CheckRollout(group, rollout));
      if (!std::all_of(rollout.logprobs.begin(), rollout.logprobs.end(),
                       [](float x) { return std::isfinite(x); })) {
        ++collected.nonfinite_logprobs;
        continue;
      }
      TrainRow row;
      row.prompt = group.task.row.prompt_tokens;
      row.response = rollout.tokens;
      row.behaviour = rollout.logprobs;
      row.versions = rollout.spans;
      row.injected = rollout.injected;
      row.routes = rollout.routes;
      row.group = first_part + PartOf(group.task, rollout.sample_index);
      row.reward = *rollout.verdict.score;
      row.correct = rollout.verdict.correct;
      row.truncated = rollout.finish_reason == FinishReason::kLength;
      row.masked = IsMasked(rollout, filter);
      if (!rollout.spans.empty() && MinVersion(rollout) < oldest) {
        const int64_t before = row.sampled_tokens();
        row.injected = collected.spans.emplace_back(NotLearnt(rollout, oldest));
        collected.old_tokens += before - row.sampled_tokens();
      }
      if (group.task.sampling.temperature > 0) row.temperature = group.task.sampling.temperature;
      collected.rows.push_back(row);
    }
  }
  return collected;
}

absl::StatusOr<CollectedRows> CollectRows(const std::vector<SftExample>& examples) {
  CollectedRows collected;
  for (size_t i = 0; i < examples.size(); ++i) {
    RETURN_IF_ERROR(AddCompletion(examples[i].prompt_tokens, examples[i].completion_tokens,
                                  static_cast<int64_t>(i), "SFT example ", collected));
  }
  return collected;
}

absl::StatusOr<CollectedRows> CollectRows(const std::vector<PreferencePair>& pairs) {
  CollectedRows collected;
  for (size_t i = 0; i < pairs.size(); ++i) {
    for (const std::vector<int32_t>* tokens : {&pairs[i].chosen_tokens, &pairs[i].rejected_tokens}) {
      RETURN_IF_ERROR(AddCompletion(pairs[i].prompt_tokens, *tokens, static_cast<int64_t>(i),
                                    "preference pair ", collected));
    }
  }
  return collected;
}

}  // namespace tramontane
