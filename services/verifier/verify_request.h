// What a verifier is asked: wire requests made from rows and rollouts. Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rollout.h"
#include "tramontane/v1/verifier.pb.h"

namespace tramontane {

// The request for one sample. Its id holds a hash of the completion: a group that is sampled again
// has the same gid, and an answer to the first must never be taken for one to the second.
// `defaults` are the verifier's params; the row's go before them. InvalidArgument when the params
// cannot be sent.
absl::StatusOr<v1::VerifyRequest> RequestFor(const PromptRow& row, const Rollout& rollout,
                                             const std::string& gid, const Json& defaults);

// One request for a whole group, from those of its samples in order. Not empty.
v1::VerifyRequest GroupRequestOf(const std::vector<const v1::VerifyRequest*>& samples);

// Why the request cannot be sent to a service that takes `most_bytes` (0: what the transport
// takes); empty when it can.
std::string TooLarge(const v1::VerifyRequest& request, uint64_t most_bytes);

}  // namespace tramontane
