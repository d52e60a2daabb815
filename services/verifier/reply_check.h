// What a verifier's answer is worth. Everything a verifier says is checked: an answer that cannot
// be true is the verifier's failure and never becomes a reward. Pure.
#pragma once

#include <string>

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
  Verdict verdict;     // for kVerdict
  std::string reason;  // for the others
};

// `description` bounds the reward unless both its bounds are 0.
CheckedReply CheckReply(const v1::VerifyResult& result, const std::string& expected_request_id,
                        const v1::VerifierDescription& description);

}  // namespace tramontane
