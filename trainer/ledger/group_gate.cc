#include "trainer/ledger/group_gate.h"

#include <algorithm>
#include <cmath>
#include <vector>

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

bool InAcceptanceWindow(const Group& group, const FilterConfig& filter) {
  if (!filter.accept_low && !filter.accept_high) return true;
  const double right = static_cast<double>(
      std::count_if(group.rollouts.begin(), group.rollouts.end(), [](const Rollout& r) { return r.verdict.correct; }));
  const double share = right / static_cast<double>(group.rollouts.size());
  return share >= filter.accept_low.value_or(0) && share <= filter.accept_high.value_or(1);
}

bool AllAlike(const Group& group, const FilterConfig& filter) {
  bool first = true;
  double low = 0, high = 0;
  for (const Rollout& rollout : group.rollouts) {
    // mask_before leaves truncated samples out of the group's statistics.
    if (filter.truncated == "mask_before" && rollout.finish_reason == FinishReason::kLength) continue;
    const double value = filter.on == "accuracy" ? (rollout.verdict.correct ? 1.0 : 0.0)
                                                 : rollout.verdict.score.value_or(0);
    low = first ? value : std::min(low, value);
    high = first ? value : std::max(high, value);
    first = false;
  }
  return high - low <= kSameReward;
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
