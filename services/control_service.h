// The Control service that every process serves: who it is, what it is doing, how to stop it.
#pragma once

#include <functional>
#include <string>

#include "services/handshake.h"
#include "tramontane/v1/control.grpc.pb.h"

namespace tramontane {

// Callbacks may be called from any gRPC thread and must not block.
class ControlService final : public v1::Control::CallbackService {
 public:
  struct Hooks {
    std::string process;
    std::string metrics_address;
    Identity identity;
    std::function<v1::ProcessState()> state;
    std::function<void(double deadline_s)> drain;  // 0: the process's own deadline
  };
  explicit ControlService(Hooks hooks) : hooks_(std::move(hooks)) {}

  grpc::ServerUnaryReactor* Hello(grpc::CallbackServerContext* context,
                                  const v1::HelloRequest* request, v1::HelloReply* reply) override;
  grpc::ServerUnaryReactor* GetProcessState(grpc::CallbackServerContext* context,
                                            const v1::GetProcessStateRequest* request,
                                            v1::ProcessState* reply) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request, v1::DrainReply* reply) override;

 private:
  const Hooks hooks_;
};

}  // namespace tramontane
