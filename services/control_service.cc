#include "services/control_service.h"

#include <algorithm>
#include <cmath>

#include "services/rpc.h"

namespace tramontane {
namespace {

constexpr double kLongestDrainS = 3600;

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* ControlService::Hello(grpc::CallbackServerContext* context,
                                                const v1::HelloRequest* request,
                                                v1::HelloReply* reply) {
  *reply->mutable_handshake() = MakeHandshake(hooks_.identity);
  reply->set_process(hooks_.process);
  reply->set_metrics_address(hooks_.metrics_address);
  return Finish(context,
                ToGrpc(CheckHandshake(request->handshake(), hooks_.identity, context->peer())));
}

grpc::ServerUnaryReactor* ControlService::GetProcessState(grpc::CallbackServerContext* context,
                                                          const v1::GetProcessStateRequest*,
                                                          v1::ProcessState* reply) {
  *reply = hooks_.state();
  return Finish(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* ControlService::Drain(grpc::CallbackServerContext* context,
                                                const v1::DrainRequest* request, v1::DrainReply*) {
  const double deadline_s = request->deadline_s();
  if (!std::isfinite(deadline_s) || deadline_s < 0) {
    return Finish(context, grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                                        "deadline_s must be finite and not negative"));
  }
  hooks_.drain(std::min(deadline_s, kLongestDrainS));
  return Finish(context, grpc::Status::OK);
}

}  // namespace tramontane
