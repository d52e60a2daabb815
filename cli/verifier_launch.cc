#include "cli/verifier_launch.h"

#include <utility>

#include "cli/json_text.h"
#include "cli/local_port.h"
#include "common/status.h"
#include "services/verifier/who_is_it.h"

namespace tramontane {
namespace {

std::string WithPort(std::string text, const std::string& port) {
  const std::string mark = "{port}";
  for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += port.size()) {
    text.replace(at, mark.size(), port);
  }
  return text;
}

}  // namespace

absl::StatusOr<VerifierLaunch> PlanVerifier(const std::string& name, const VerifierSection& section,
                                            const std::string& binary_dir,
                                            const std::string& config_path, bool metrics) {
  ASSIGN_OR_RETURN(const int free_port, FreePort());
  const std::string port = std::to_string(free_port);
  VerifierLaunch launch{.argv = section.command, .address = "127.0.0.1:" + port};
  if (!section.command.empty()) {
    for (std::string& argument : launch.argv) argument = WithPort(std::move(argument), port);
    return launch;
  }
  launch.ours = true;
  launch.argv = {binary_dir + "/tramontane-verifier",          "serve",  "--name",
                 config_path.empty() ? section.builtin : name, "--bind", launch.address};
  if (!config_path.empty()) launch.argv.insert(launch.argv.end(), {"--config", config_path});
  if (!metrics) launch.argv.insert(launch.argv.end(), {"--metrics-bind", ""});
  return launch;
}

bool SaysItListens(const std::string& line, const std::string& address) {
  const Json said = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  return said.is_object() && TextAt(said, "event") == "listening" &&
         TextAt(said, "address") == address;
}

absl::Status ProbeVerifier(const std::string& address, double timeout_s) {
  const absl::Status asked = WhoIsIt(address, timeout_s).status();
  if (asked.ok() || absl::IsFailedPrecondition(asked)) return asked;
  return absl::UnavailableError("no verifier answers: " + std::string(asked.message()));
}

}  // namespace tramontane
