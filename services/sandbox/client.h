// A tramontane-sandbox service as a ProgramRunner.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "tramontane/v1/sandbox.grpc.pb.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

// Any thread. Connects in the background; a service that is away is Unavailable, one that is full
// is tried again until the run's own deadline.
class SandboxClient final : public ProgramRunner {
 public:
  explicit SandboxClient(const std::string& address);

  absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                 const RunLimits& limits) override;
  // FailedPrecondition on version skew.
  absl::StatusOr<SandboxDescription> Describe() override;

 private:
  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Sandbox::Stub> stub_;
};

}  // namespace tramontane
