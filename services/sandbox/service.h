// The Sandbox gRPC service over a ProgramRunner. No reaction blocks: runs wait for worker threads
// of their own, one for each program that may run at once.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "common/mailbox.h"
#include "tramontane/v1/sandbox.grpc.pb.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

class SandboxService final : public v1::Sandbox::CallbackService {
 public:
  static constexpr char kFullName[] = "tramontane.v1.Sandbox";

  // `runner` outlives the service's server. At most `max_waiting` runs wait; one more is
  // RESOURCE_EXHAUSTED.
  SandboxService(ProgramRunner& runner, const SandboxDescription& description, size_t max_waiting);
  ~SandboxService() override;  // finishes what it holds

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest* request,
                                     v1::SandboxDescription* reply) override;
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context,
                                const v1::RunProgramRequest* request,
                                v1::RunProgramResult* reply) override;

  // Takes no more runs and finishes those it holds. Blocks.
  void Drain();
  size_t waiting() const { return queue_.size(); }

 private:
  void Work();

  ProgramRunner& runner_;
  const SandboxDescription description_;
  Mailbox<std::function<void()>> queue_;
  std::vector<std::thread> workers_;
};

}  // namespace tramontane
