#include "services/verifier/reply_check.h"

#include <cmath>
#include <utility>

#include "services/convert.h"

namespace tramontane {
namespace {

// Sums of floating-point components may miss the bounds they were computed from by this much.
constexpr double kBoundSlack = 1e-6;

CheckedReply Of(ReplyKind kind, std::string reason) { return {kind, Verdict{}, std::move(reason)}; }

bool WithinBounds(double reward, const v1::VerifierDescription& description) {
  if (description.reward_min() == 0 && description.reward_max() == 0) return true;
  return reward >= description.reward_min() - kBoundSlack &&
         reward <= description.reward_max() + kBoundSlack;
}

}  // namespace

CheckedReply CheckReply(const v1::VerifyResult& result, const std::string& expected_request_id,
                        const v1::VerifierDescription& description) {
  if (result.request_id() != expected_request_id) {
    return Of(ReplyKind::kRetry, "the reply is for request \"" + result.request_id() + "\", not \"" +
                                     expected_request_id + "\"");
  }
  const std::string name = v1::VerifyStatus_Name(result.status());
  const std::string said = name + (result.feedback().empty() ? "" : ": " + result.feedback());
  switch (result.status()) {
    case v1::VERIFY_STATUS_BAD_INPUT: return Of(ReplyKind::kBadRow, said);
    case v1::VERIFY_STATUS_OVERLOADED:
    case v1::VERIFY_STATUS_CANCELLED: return Of(ReplyKind::kNotTried, said);
    case v1::VERIFY_STATUS_VERIFIER_ERROR:
    case v1::VERIFY_STATUS_SANDBOX_ERROR: return Of(ReplyKind::kRetry, said);
    default: break;
  }
  absl::StatusOr<Verdict> verdict = FromProto(result);
  if (!verdict.ok()) return Of(ReplyKind::kRetry, std::string(verdict.status().message()));
  if (verdict->score && !WithinBounds(*verdict->score, description)) {
    return Of(ReplyKind::kRetry, "reward " + std::to_string(*verdict->score) + " is outside [" +
                                     std::to_string(description.reward_min()) + ", " +
                                     std::to_string(description.reward_max()) + "]");
  }
  if (!std::isfinite(verdict->queue_seconds) || !std::isfinite(verdict->exec_seconds)) {
    return Of(ReplyKind::kRetry, "a time in the reply is not finite");
  }
  return {ReplyKind::kVerdict, *std::move(verdict), ""};
}

}  // namespace tramontane
