// A verifier service as a process of its own that ends itself by SIGKILL over requests whose
// completion orders it to misbehave (hostile_services.h). killable_verifier PORT
#include <signal.h>
#include <sys/prctl.h>

#include <cstdlib>
#include <thread>

#include "tests/unit/verifier_service/hostile_services.h"

namespace tramontane {
namespace {

int Main(int port) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // it does not outlive the test
  ScriptedVerifier verifier([](const v1::VerifyRequest& request, int, v1::VerifyResult*) {
    if (Order::Parse(request.completion()).mood == Mood::kAlways) raise(SIGKILL);
    return grpc::Status::OK;
  });
  const std::unique_ptr<grpc::Server> server = Serve(&verifier, &port);
  if (!server) return 1;
  server->Wait();
  return 0;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return argc == 2 ? tramontane::Main(std::atoi(argv[1])) : 2; }
