#include "services/sandbox/client.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/clock.h"
#include "common/status.h"
#include "services/handshake.h"
#include "services/rpc.h"
#include "services/sandbox/messages.h"

namespace tramontane {
namespace {

constexpr double kDescribeTimeoutS = 20;
// Beyond a run's own wall time: waiting for a place, compiling.
constexpr double kPatienceS = 120;
constexpr auto kFirstPause = std::chrono::milliseconds(20),
               kLongestPause = std::chrono::milliseconds(500);

}  // namespace

SandboxClient::SandboxClient(const std::string& address)
    : address_(address), channel_(MakeChannel(address)), stub_(v1::Sandbox::NewStub(channel_)) {}

absl::StatusOr<SandboxDescription> SandboxClient::Describe() {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  SetDeadline(context, kDescribeTimeoutS);
  v1::DescribeRequest request;
  *request.mutable_handshake() = MakeHandshake(Identity{});
  v1::SandboxDescription reply;
  RETURN_IF_ERROR(
      Annotate(FromGrpc(stub_->Describe(&context, request, &reply)), "sandbox " + address_));
  RETURN_IF_ERROR(CheckHandshake(reply.handshake(), Identity{}, "sandbox " + address_));
  return FromProto(reply);
}

absl::StatusOr<ProgramRun> SandboxClient::Run(const ProgramSpec& program, std::string_view input,
                                              const RunLimits& limits) {
  v1::RunProgramRequest request;
  request.set_language(program.language);
  request.set_source(program.source);
  request.set_function(program.function);
  request.set_input(std::string(input));
  request.mutable_files()->insert(program.files.begin(), program.files.end());
  *request.mutable_limits() = ToProto(limits);
  const auto start = std::chrono::steady_clock::now();
  const double patience_s = kPatienceS + 2 * limits.time_s;
  for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    grpc::ClientContext context;
    SetDeadline(context, std::max(0.0, patience_s - SecondsSince(start)));
    v1::RunProgramResult reply;
    const absl::Status status = FromGrpc(stub_->Run(&context, request, &reply));
    if (status.ok()) return FromProto(std::move(reply));
    if (absl::IsInvalidArgument(status)) return status;
    if (!absl::IsResourceExhausted(status) || SecondsSince(start) >= patience_s) {
      return absl::UnavailableError("sandbox " + address_ + ": " + status.ToString());
    }
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace tramontane
