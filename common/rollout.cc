#include "common/rollout.h"

namespace tramontane {

bool AreDisjointSpans(const std::vector<TokenSpan>& spans, size_t tokens) {
  int64_t end = 0;
  for (const TokenSpan& span : spans) {
    if (span.begin < end || span.count <= 0) return false;
    end = int64_t{span.begin} + span.count;
  }
  return end <= static_cast<int64_t>(tokens);
}

int64_t CountTokens(const std::vector<TokenSpan>& spans) {
  int64_t count = 0;
  for (const TokenSpan& span : spans) count += span.count;
  return count;
}

bool OneVerifierVersion(const std::vector<Rollout>& rollouts) {
  const std::string* first = nullptr;
  for (const Rollout& rollout : rollouts) {
    const Verdict& verdict = rollout.verdict;
    if (!verdict.score || verdict.verifier_digest.empty()) continue;
    if (first == nullptr) first = &verdict.verifier_digest;
    if (*first != verdict.verifier_digest) return false;
  }
  return true;
}

int64_t MinVersion(const Rollout& rollout) {
  return rollout.spans.empty() ? 0 : rollout.spans.front().version;
}

int64_t MaxVersion(const Rollout& rollout) {
  return rollout.spans.empty() ? 0 : rollout.spans.back().version;
}

const char* ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kUnspecified:
      return "unspecified";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "aborted";
    case FinishReason::kError:
      return "error";
    case FinishReason::kTimeout:
      return "timeout";
    case FinishReason::kRepetition:
      return "repetition";
  }
  return "unspecified";
}

const char* ToString(VerdictStatus status) {
  switch (status) {
    case VerdictStatus::kUnspecified:
      return "unspecified";
    case VerdictStatus::kScored:
      return "scored";
    case VerdictStatus::kPolicyFailure:
      return "policy_failure";
    case VerdictStatus::kTimeout:
      return "timeout";
    case VerdictStatus::kInfraFailure:
      return "infra_failure";
    case VerdictStatus::kSkipped:
      return "skipped";
  }
  return "unspecified";
}

const char* ToString(Purpose purpose) { return purpose == Purpose::kTrain ? "train" : "eval"; }

}  // namespace tramontane
