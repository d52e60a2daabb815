#include "trainer/ledger/group_gate.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/layers.h"
#include "common/sample_faults.h"

namespace tramontane {
namespace {

constexpr double kSameReward = 1e-9;

std::string InvalidReason(const Rollout& rollout, const FilterConfig& filter) {
  switch (rollout.finish_reason) {
    case FinishReason::kStop:
    case FinishReason::kRepetition:
      break;
    case FinishReason::kLength:
      if (filter.truncated == "drop") return "truncated";
      break;
    case FinishReason::kAborted: return "aborted";
    case FinishReason::kTimeout: return "generation_timeout";
    case FinishReason::kError:
    case FinishReason::kUnspecified: return "generation_error";
  }
  if (rollout.tokens.empty()) return "empty";
  if (filter.gibberish == "drop" && IsGibberish(rollout, filter)) return "gibberish";
  if (filter.repetition == "drop" && GoesRound(rollout, filter)) return "repetition";
  switch (rollout.verdict.status) {
    case VerdictStatus::kScored:
    case VerdictStatus::kPolicyFailure: break;
    case VerdictStatus::kTimeout: return "verifier_timeout";
    case VerdictStatus::kSkipped: return "verifier_skipped";
    case VerdictStatus::kInfraFailure:
    case VerdictStatus::kUnspecified: return "infra_failure";
  }
  if (!rollout.verdict.score || !std::isfinite(*rollout.verdict.score)) return "no_score";
  return "";
}

// Of the answers: how corrections fare says nothing of the prompt.
bool InAcceptanceWindow(const Group& group, const FilterConfig& filter) {
  if (!filter.accept_low && !filter.accept_high) return true;
  double right = 0, answers = 0;
  for (const Rollout& rollout : group.rollouts) {
    if (IsCorrection(group.task, rollout.sample_index)) continue;
    right += rollout.verdict.correct ? 1 : 0;
    answers += 1;
  }
  if (answers == 0) return false;
  const double share = right / answers;
  return share >= filter.accept_low.value_or(0) && share <= filter.accept_high.value_or(1);
}

// In each part of the group, if it has several.
bool AllAlike(const Group& group, const FilterConfig& filter) {
  std::map<int64_t, std::pair<double, double>> bounds;  // part → least, greatest
  for (const Rollout& rollout : group.rollouts) {
    // mask_before leaves truncated samples out of the group's statistics.
    if (filter.truncated == "mask_before" && rollout.finish_reason == FinishReason::kLength) continue;
    const double value = filter.on == "accuracy" ? (rollout.verdict.correct ? 1.0 : 0.0)
                                                 : rollout.verdict.score.value_or(0);
    const int64_t part = PartOf(group.task, rollout.sample_index);
    auto& [low, high] = bounds.try_emplace(part, value, value).first->second;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  return std::ranges::all_of(bounds, [](const auto& part) {
    return part.second.second - part.second.first <= kSameReward;
  });
}

}  // namespace

std::map<std::string, int64_t> RemoveInvalidSamples(Group& group, const FilterConfig& filter) {
  std::map<std::string, int64_t> removed;
  std::erase_if(group.rollouts, [&](const Rollout& rollout) {
    const std::string reason = InvalidReason(rollout, filter);
    if (reason.empty()) return false;
    ++removed[reason];
    return true;
  });
  return removed;
}

int64_t OldestVersion(const Group& group) {
  int64_t oldest = group.task.issued_version;
  bool first = true;
  for (const Rollout& rollout : group.rollouts) {
    if (rollout.spans.empty()) continue;
    oldest = first ? MinVersion(rollout) : std::min(oldest, MinVersion(rollout));
    first = false;
  }
  return oldest;
}

std::string RejectReason(const Group& group, const FilterConfig& filter, const StalenessGate& gate,
                         int64_t version) {
  if (group.rollouts.size() < static_cast<size_t>(std::min(2, std::max(1, group.task.samples)))) {
    return "too_few_valid";
  }
  for (const Rollout& rollout : group.rollouts) {
    if (MaxVersion(rollout) > version) return "future_version";
  }
  if (!OneVerifierVersion(group.rollouts)) return "mixed_verifiers";
  if (!gate.Fresh(OldestVersion(group), version)) return "stale";
  if (!InAcceptanceWindow(group, filter)) return "pass_rate";
  if (filter.zero_variance == "drop" && group.task.samples > 1 && AllAlike(group, filter)) {
    return "zero_variance";
  }
  return "";
}

}  // namespace tramontane
