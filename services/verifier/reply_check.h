// What a verifier's answer is worth. Everything a verifier says is checked: an answer that cannot
// be true is the verifier's failure and never becomes a reward. Pure.
#pragma once

#include <string>
#include <vector>

#include "common/rollout.h"
#include "tramontane/v1/verifier.pb.h"

namespace tramontane {

enum class ReplyKind {
  kVerdict,   // a score, a policy failure or a timeout: done
  kRetry,     // the verifier's fault; may go better next time
  kNotTried,  // overloaded, or stopping; ask later
  kBadRow,    // the row's fault (no gold answer, …): no attempt can help
};

struct CheckedReply {
  ReplyKind kind = ReplyKind::kRetry;
  std::vector<Verdict> verdicts;  // for kVerdict: one, or for a group one a sample
  std::string reason;             // for the others
};

// `result` as an answer to `request`. A group's samples are judged one by one: a row that cannot be
// judged is an infrastructure failure of its sample; a sample that calls for another try is a
// reason to ask for the whole group again. `description` bounds rewards unless both its bounds are
// 0.
CheckedReply CheckReply(const v1::VerifyResult& result, const v1::VerifyRequest& request,
                        const v1::VerifierDescription& description);

}  // namespace tramontane
