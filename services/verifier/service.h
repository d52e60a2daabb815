// The Verifier gRPC service over a ScoringDesk. Callback API: no reaction blocks.
#pragma once

#include <memory>
#include <string>

#include "services/verifier/scoring_desk.h"
#include "tramontane/v1/verifier.grpc.pb.h"
#include "verifier/grader.h"

namespace tramontane {

class VerifierService final : public v1::Verifier::CallbackService {
 public:
  static constexpr char kFullName[] = "tramontane.v1.Verifier";

  // `desk` outlives the service's server.
  VerifierService(std::shared_ptr<const Grader> grader, ScoringOptions options, ScoringDesk& desk);

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest* request,
                                     v1::VerifierDescription* reply) override;
  // A full queue is RESOURCE_EXHAUSTED.
  grpc::ServerUnaryReactor* Verify(grpc::CallbackServerContext* context,
                                   const v1::VerifyRequest* request,
                                   v1::VerifyResult* reply) override;
  // A full queue is a result with status OVERLOADED; the stream goes on.
  grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult>* VerifyStream(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context,
                                   const v1::CancelRequest* request,
                                   v1::CancelReply* reply) override;

 private:
  const std::shared_ptr<const Grader> grader_;
  const ScoringOptions options_;
  ScoringDesk& desk_;
};

}  // namespace tramontane
