#include "services/verifier/health_probe.h"

#include "grpc/health/v1/health.grpc.pb.h"
#include "services/rpc.h"

namespace tramontane {

using grpc::health::v1::HealthCheckResponse;

absl::Status CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service,
                         double timeout_s) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_s);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  HealthCheckResponse reply;
  const grpc::Status status =
      grpc::health::v1::Health::NewStub(channel)->Check(&context, request, &reply);
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return absl::OkStatus();
  if (!status.ok()) return FromGrpc(status);
  if (reply.status() == HealthCheckResponse::SERVING) return absl::OkStatus();
  return absl::UnavailableError(service + " is " +
                                HealthCheckResponse::ServingStatus_Name(reply.status()));
}

}  // namespace tramontane
