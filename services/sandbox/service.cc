#include "services/sandbox/service.h"

#include <chrono>
#include <utility>

#include "services/handshake.h"
#include "services/rpc.h"
#include "services/sandbox/messages.h"

namespace tramontane {
namespace {

constexpr auto kIdleWait = std::chrono::seconds(1);

}  // namespace

SandboxService::SandboxService(ProgramRunner& runner, const SandboxDescription& description,
                               size_t max_waiting)
    : runner_(runner), description_(description), queue_(max_waiting) {
  for (int32_t i = 0; i < description.programs; ++i) workers_.emplace_back([this] { Work(); });
}

SandboxService::~SandboxService() { Drain(); }

void SandboxService::Drain() {
  queue_.Close();
  for (std::thread& worker : workers_) {
    if (worker.joinable()) worker.join();
  }
}

void SandboxService::Work() {
  while (true) {
    const auto run = queue_.Pop(kIdleWait);
    if (run) {
      (*run)();
    } else if (queue_.closed()) {
      return;
    }
  }
}

grpc::ServerUnaryReactor* SandboxService::Describe(grpc::CallbackServerContext* context,
                                                   const v1::DescribeRequest* request,
                                                   v1::SandboxDescription* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status skew = CheckHandshake(request->handshake(), Identity{}, context->peer());
  if (skew.ok()) {
    *reply = ToProto(description_);
    *reply->mutable_handshake() = MakeHandshake(Identity{});
  }
  reactor->Finish(ToGrpc(skew));
  return reactor;
}

grpc::ServerUnaryReactor* SandboxService::Run(grpc::CallbackServerContext* context,
                                              const v1::RunProgramRequest* request,
                                              v1::RunProgramResult* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  std::function<void()> run = [this, context, reactor, request, reply] {
    if (context->IsCancelled()) {  // the caller's deadline passed while it waited
      reactor->Finish(grpc::Status::CANCELLED);
      return;
    }
    const ProgramSpec program{.language = request->language(),
                              .source = request->source(),
                              .function = request->function(),
                              .files = {request->files().begin(), request->files().end()}};
    auto done = runner_.Run(program, request->input(), FromProto(request->limits()));
    if (done.ok()) *reply = ToProto(*std::move(done));
    reactor->Finish(ToGrpc(done.status()));
  };
  if (!queue_.TryPush(std::move(run))) {
    reactor->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                 "the sandbox has as many runs waiting as it takes"));
  }
  return reactor;
}

}  // namespace tramontane
