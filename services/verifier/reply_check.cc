#include "services/verifier/reply_check.h"

#include <cmath>
#include <utility>

#include "services/convert.h"
#include "services/judged_digest.h"

namespace tramontane {
namespace {

// Sums of floating-point components may miss the bounds they were computed from by this much.
constexpr double kBoundSlack = 1e-6;

CheckedReply Of(ReplyKind kind, std::string reason) { return {kind, {}, std::move(reason)}; }

bool WithinBounds(double reward, const v1::VerifierDescription& description) {
  if (description.reward_min() == 0 && description.reward_max() == 0) return true;
  return reward >= description.reward_min() - kBoundSlack &&
         reward <= description.reward_max() + kBoundSlack;
}

// One sample's result, or the only one.
CheckedReply CheckOne(const v1::VerifyResult& result, const v1::VerifierDescription& description) {
  const std::string name = v1::VerifyStatus_Name(result.status());
  const std::string said = name + (result.feedback().empty() ? "" : ": " + result.feedback());
  switch (result.status()) {
    case v1::VERIFY_STATUS_BAD_INPUT:
      return Of(ReplyKind::kBadRow, said);
    case v1::VERIFY_STATUS_OVERLOADED:
    case v1::VERIFY_STATUS_CANCELLED:
      return Of(ReplyKind::kNotTried, said);
    case v1::VERIFY_STATUS_VERIFIER_ERROR:
    case v1::VERIFY_STATUS_SANDBOX_ERROR:
      return Of(ReplyKind::kRetry, said);
    default:
      break;
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
  return {ReplyKind::kVerdict, {*std::move(verdict)}, ""};
}

CheckedReply CheckGroup(const v1::VerifyResult& result, int samples,
                        const v1::VerifierDescription& description) {
  if (result.group_size() != samples) {
    return Of(ReplyKind::kRetry, "the reply has " + std::to_string(result.group_size()) +
                                     " results for a group of " + std::to_string(samples));
  }
  CheckedReply all{ReplyKind::kVerdict, {}, ""};
  for (const v1::VerifyResult& one : result.group()) {
    CheckedReply checked = CheckOne(one, description);
    if (checked.kind == ReplyKind::kBadRow) {
      checked.verdicts.emplace_back();
      checked.verdicts.back().status = VerdictStatus::kInfraFailure;
      checked.verdicts.back().feedback = checked.reason;
    } else if (checked.kind != ReplyKind::kVerdict) {
      return checked;
    }
    Verdict& verdict = all.verdicts.emplace_back(std::move(checked.verdicts.front()));
    verdict.verifier_version = result.version();
    verdict.verifier_digest = result.digest();
  }
  return all;
}

}  // namespace

CheckedReply CheckReply(const v1::VerifyResult& result, const v1::VerifyRequest& request,
                        const v1::VerifierDescription& description) {
  if (result.request_id() != request.request_id()) {
    return Of(ReplyKind::kRetry, "the reply is for request \"" + result.request_id() +
                                     "\", not \"" + request.request_id() + "\"");
  }
  if (!result.judged().empty() && result.judged() != JudgedDigest(request)) {
    return Of(ReplyKind::kRetry, "the reply is about another completion than request \"" +
                                     request.request_id() + "\"");
  }
  const bool scored = result.status() == v1::VERIFY_STATUS_SCORED;
  v1::VerifierDescription bounds = description;
  if (request.reward_weights_size() > 0) {  // the description's are of its own weights
    bounds.clear_reward_min();
    bounds.clear_reward_max();
  }
  if (request.group_size() > 0 && scored) return CheckGroup(result, request.group_size(), bounds);
  CheckedReply reply = CheckOne(result, bounds);
  // A timeout of the whole group is one of each of its samples.
  if (request.group_size() > 1 && reply.kind == ReplyKind::kVerdict) {
    reply.verdicts.resize(static_cast<size_t>(request.group_size()), reply.verdicts.front());
  }
  return reply;
}

}  // namespace tramontane
