#include "common/rollout.h"

namespace tramontane {

int64_t MinVersion(const Rollout& rollout) {
  return rollout.spans.empty() ? 0 : rollout.spans.front().version;
}

int64_t MaxVersion(const Rollout& rollout) {
  return rollout.spans.empty() ? 0 : rollout.spans.back().version;
}

const char* ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kUnspecified: return "unspecified";
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kAborted: return "aborted";
    case FinishReason::kError: return "error";
  }
  return "unspecified";
}

const char* ToString(VerdictStatus status) {
  switch (status) {
    case VerdictStatus::kUnspecified: return "unspecified";
    case VerdictStatus::kScored: return "scored";
    case VerdictStatus::kPolicyFailure: return "policy_failure";
    case VerdictStatus::kTimeout: return "timeout";
    case VerdictStatus::kInfraFailure: return "infra_failure";
  }
  return "unspecified";
}

const char* ToString(Purpose purpose) { return purpose == Purpose::kTrain ? "train" : "eval"; }

}  // namespace tramontane
