#include "cli/verifier_child.h"

#include <chrono>
#include <thread>
#include <utility>

#include "cli/registry.h"
#include "cli/verifier_launch.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr std::chrono::seconds kReady(120);

constexpr double kProbeTimeoutS = 1;
constexpr std::chrono::milliseconds kPause(50);

// Until the process listens at the address it was given.
absl::Status AwaitVerifier(ChildProcess& process, const VerifierLaunch& launch) {
  const auto end = std::chrono::steady_clock::now() + kReady;
  while (true) {
    const std::optional<ExitStatus> exit = process.Poll();
    for (const std::string& line : process.ReadLines()) {
      if (SaysItListens(line, launch.address)) return absl::OkStatus();
    }
    if (exit)
      return absl::UnavailableError("ended with " + exit->ToString() + " before it listened");
    absl::Status probed = absl::UnavailableError("does not say that it listens");
    if (!launch.ours) probed = ProbeVerifier(launch.address, kProbeTimeoutS);
    if (!absl::IsUnavailable(probed)) return probed;
    if (std::chrono::steady_clock::now() > end) {
      return absl::DeadlineExceededError(std::string(probed.message()));
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

absl::StatusOr<VerifierChild> VerifierChild::Start(const std::string& name, VerifierSection section,
                                                   const std::string& binary_dir,
                                                   const std::string& config_path,
                                                   const std::string& log_path) {
  RETURN_IF_ERROR(VerifierRegistry(RegistryFolder()).FillIn(section));
  VerifierChild child;
  if (section.address.empty()) {
    ASSIGN_OR_RETURN(const VerifierLaunch launch,
                     PlanVerifier(name, section, binary_dir, config_path, /*metrics=*/false));
    ASSIGN_OR_RETURN(child.process_, ChildProcess::Start(launch.argv, log_path));
    const absl::Status ready = AwaitVerifier(*child.process_, launch);
    if (!ready.ok()) {
      return Annotate(ready, "verifier " + name + " at " + launch.address + " (" + log_path + ")");
    }
    section.builtin.clear();
    section.command.clear();
    section.address = launch.address;
  }
  child.section_ = std::move(section);
  return child;
}

}  // namespace tramontane
