// What a verdict is about, in a few digits: a verifier that takes one request for another says so
// by them, though the request_id on its reply be right. VerifyResult.judged in verifier.proto.
#pragma once

#include <string>

#include "tramontane/v1/verifier.pb.h"

namespace tramontane {

// The first 16 hex digits of SHA-256 over prompt, completion (of a group every sample's, in order)
// and answer, each as "<bytes>:<text>".
std::string JudgedDigest(const v1::VerifyRequest& request);

}  // namespace tramontane
