#include "services/verifier/service.h"

#include <utility>

#include "services/convert.h"
#include "services/handshake.h"
#include "services/rpc.h"
#include "services/verifier/verify_stream.h"

namespace tramontane {
namespace {

constexpr double kSuggestedExecTimeoutS = 10;

}  // namespace

VerifierService::VerifierService(std::shared_ptr<const Grader> grader, ScoringOptions options,
                                 ScoringDesk& desk)
    : grader_(std::move(grader)), options_(options), desk_(desk) {}

grpc::ServerUnaryReactor* VerifierService::Describe(grpc::CallbackServerContext* context,
                                                    const v1::DescribeRequest* request,
                                                    v1::VerifierDescription* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  // A verifier serves any run and has no tokenizer: only the protocol can differ.
  const absl::Status skew = CheckHandshake(request->handshake(), Identity{}, context->peer());
  if (!skew.ok()) {
    reactor->Finish(ToGrpc(skew));
    return reactor;
  }
  *reply->mutable_handshake() = MakeHandshake(Identity{});
  reply->set_name(grader_->name());
  reply->set_version(grader_->version());
  reply->set_digest(grader_->digest());
  for (const std::string& component : grader_->components()) reply->add_components(component);
  reply->set_reward_min(grader_->min_score());
  reply->set_reward_max(grader_->max_score());
  reply->set_group_aware(grader_->group_aware());
  reply->set_determinism(grader_->pure() ? v1::DETERMINISM_PURE : v1::DETERMINISM_NONE);
  reply->set_max_request_bytes(kMaxMessageBytes);
  // What is built in is no deeper than a Struct may be.
  if (auto schema = ToStruct(grader_->params_schema()); schema.ok() && !schema->fields().empty()) {
    *reply->mutable_params_schema() = *std::move(schema);
  }
  for (const std::string& note : grader_->notes()) reply->add_notes(note);
  reply->set_capacity(static_cast<uint32_t>(options_.threads));
  reply->set_tier(options_.tier);
  reply->set_suggested_exec_timeout_s(kSuggestedExecTimeoutS);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* VerifierService::Verify(grpc::CallbackServerContext* context,
                                                  const v1::VerifyRequest* request,
                                                  v1::VerifyResult* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  desk_.Submit(*request, [reactor, reply](const v1::VerifyResult& result) {
    if (result.status() == v1::VERIFY_STATUS_OVERLOADED) {
      reactor->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, result.feedback()));
      return;
    }
    *reply = result;
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerBidiReactor<v1::VerifyRequest, v1::VerifyResult>* VerifierService::VerifyStream(
    grpc::CallbackServerContext*) {
  return NewVerifyStream(desk_);
}

grpc::ServerUnaryReactor* VerifierService::Cancel(grpc::CallbackServerContext* context,
                                                  const v1::CancelRequest* request,
                                                  v1::CancelReply*) {
  desk_.Cancel(request->request_id());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace tramontane
