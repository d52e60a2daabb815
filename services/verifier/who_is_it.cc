#include "services/verifier/who_is_it.h"

#include <grpcpp/grpcpp.h>

#include "common/status.h"
#include "services/handshake.h"
#include "services/rpc.h"
#include "tramontane/v1/verifier.grpc.pb.h"

namespace tramontane {

absl::StatusOr<VerifierIdentity> WhoIsIt(const std::string& address, double timeout_s) {
  const auto stub = v1::Verifier::NewStub(MakeChannel(address));
  grpc::ClientContext context;
  SetDeadline(context, timeout_s);
  v1::DescribeRequest request;
  *request.mutable_handshake() = MakeHandshake(Identity{});
  v1::VerifierDescription reply;
  const absl::Status asked = FromGrpc(stub->Describe(&context, request, &reply));
  if (!asked.ok()) return Annotate(asked, address);
  RETURN_IF_ERROR(CheckHandshake(reply.handshake(), Identity{}, address));
  return VerifierIdentity{reply.name(), reply.version(), reply.digest()};
}

}  // namespace tramontane
