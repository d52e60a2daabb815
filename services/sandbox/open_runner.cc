#include "services/sandbox/open_runner.h"

#include <algorithm>
#include <string>

#include "common/log.h"
#include "common/status.h"
#include "services/sandbox/client.h"
#include "verifier/sandbox/local_runner.h"

namespace tramontane {
namespace {

// A service's word for it is all there is.
absl::Status CheckService(const SandboxDescription& description, const SandboxSection& section) {
  if (description.tier.empty() || description.tier > section.required_tier) {
    return absl::FailedPreconditionError("sandbox " + section.address + ": is of tier " +
                                         description.tier + ", sandbox.required_tier is " +
                                         section.required_tier);
  }
  for (const std::string& layer : section.required_layers) {
    const bool there = std::any_of(
        description.layers.begin(), description.layers.end(),
        [&layer](const std::string& name) { return name.substr(0, name.find(':')) == layer; });
    if (!there) {
      return absl::FailedPreconditionError("sandbox " + section.address + ": missing " + layer +
                                           ", which sandbox.required_layers demands");
    }
  }
  return absl::OkStatus();
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

}  // namespace

absl::StatusOr<std::shared_ptr<ProgramRunner>> OpenRunner(const SandboxSection& section,
                                                          MetricsRegistry& metrics) {
  std::shared_ptr<ProgramRunner> runner;
  if (!section.address.empty()) {
    runner = std::make_shared<SandboxClient>(section.address);
  } else {
    ASSIGN_OR_RETURN(runner, LocalRunner::Create(section, "", metrics));
  }
  ASSIGN_OR_RETURN(const SandboxDescription description, runner->Describe());
  if (!section.address.empty()) RETURN_IF_ERROR(CheckService(description, section));
  metrics
      .MakeGauge("tramontane_sandbox_info",
                 {{"tier", description.tier}, {"layers", Joined(description.layers)}})
      .Set(1);
  LogInfo("sandbox", {{"tier", description.tier},
                      {"layers", Joined(description.layers)},
                      {"missing", Joined(description.missing)}});
  return runner;
}

Json ToJson(const SandboxDescription& description) {
  return {{"tier", description.tier},           {"runtime_class", description.runtime_class},
          {"layers", description.layers},       {"missing", description.missing},
          {"languages", description.languages}, {"runtimes", description.runtimes},
          {"programs", description.programs}};
}

}  // namespace tramontane
