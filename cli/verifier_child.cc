#include "cli/verifier_child.h"

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "cli/local_port.h"
#include "cli/registry.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr std::chrono::seconds kReady(120);

std::vector<std::string> Command(const std::string& name, const VerifierSection& section, int port,
                                 const std::string& binary_dir, const std::string& config_path) {
  const std::string number = std::to_string(port);
  if (section.command.empty()) {
    std::vector<std::string> argv = {binary_dir + "/tramontane-verifier", "serve", "--name",
                                     config_path.empty() ? section.builtin : name, "--bind",
                                     "127.0.0.1:" + number, "--metrics-bind", ""};
    if (!config_path.empty()) argv.insert(argv.end(), {"--config", config_path});
    return argv;
  }
  std::vector<std::string> argv = section.command;
  for (std::string& argument : argv) {
    for (size_t at = 0; (at = argument.find("{port}", at)) != std::string::npos;) {
      argument.replace(at, 6, number);
    }
  }
  return argv;
}

}  // namespace

absl::StatusOr<VerifierChild> VerifierChild::Start(const std::string& name, VerifierSection section,
                                                   const std::string& binary_dir,
                                                   const std::string& config_path,
                                                   const std::string& log_path) {
  RETURN_IF_ERROR(VerifierRegistry(RegistryFolder()).FillIn(section));
  VerifierChild child;
  if (section.address.empty()) {
    ASSIGN_OR_RETURN(const int port, FreePort());
    ASSIGN_OR_RETURN(child.process_,
                     ChildProcess::Start(Command(name, section, port, binary_dir, config_path), log_path));
    const auto end = std::chrono::steady_clock::now() + kReady;
    while (!Connects(port)) {
      if (const auto exit = child.process_->Poll()) {
        return absl::UnavailableError("verifier " + name + " ended with " + exit->ToString() +
                                      " before it listened; see " + log_path);
      }
      if (std::chrono::steady_clock::now() > end) {
        return absl::DeadlineExceededError("verifier " + name + " does not listen; see " + log_path);
      }
      child.process_->ReadLines();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    section.builtin.clear();
    section.command.clear();
    section.address = "127.0.0.1:" + std::to_string(port);
  }
  child.section_ = std::move(section);
  return child;
}

}  // namespace tramontane
