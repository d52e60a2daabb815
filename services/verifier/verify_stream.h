// One VerifyStream call: reads requests, writes results as they come, in any order.
#pragma once

#include <grpcpp/grpcpp.h>

#include "services/verifier/scoring_desk.h"
#include "tramontane/v1/verifier.pb.h"

namespace tramontane {

// A reactor that deletes itself when the call is done. At most a bounded number of its requests is
// in progress: beyond it the stream is not read, and the sender feels it.
grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult>* NewVerifyStream(ScoringDesk& desk);

}  // namespace tramontane
