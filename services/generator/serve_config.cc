#include "services/generator/serve_config.h"

#include <algorithm>
#include <string>
#include <thread>

#include "common/scorers.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr int kHttpPortAlone = 8000;
constexpr int32_t kMostThreadsAlone = 16;

// What the command line says of any generator's settings.
GeneratorSection SectionOf(const ServeOptions& options, GeneratorSection section) {
  if (section.http_port > 0) section.http_port += options.index;
  section.threads = options.threads.value_or(section.threads);
  section.kv_blocks = options.kv_blocks.value_or(section.kv_blocks);
  section.vllm_metric_aliases |= options.vllm_metric_aliases;
  if (!options.value_model.empty()) section.value_model = options.value_model;
  return section;
}

// Settings of a generator that belongs to no run.
absl::StatusOr<RunConfig> ConfigAlone(const ServeOptions& options) {
  RunConfig alone;
  alone.generator.http_port = kHttpPortAlone;
  alone.generator.threads = std::clamp<int32_t>(
      static_cast<int32_t>(std::thread::hardware_concurrency()), 1, kMostThreadsAlone);
  const auto section = ParseGenerator(options.settings, alone.generator);
  if (!section.ok()) return Annotate(section.status(), "--set");
  alone.generator = SectionOf(options, *section);
  for (const std::string& named : options.verifiers) {
    const size_t equals = named.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == named.size())
      return absl::InvalidArgumentError("--verifier: must be NAME=host:port, got " + named);
    const std::string name = named.substr(0, equals);
    if (const std::string why(WhyReserved(name)); !why.empty())
      return absl::InvalidArgumentError("--verifier: " + named + ": " + why);
    alone.verifiers[name].address = named.substr(equals + 1);
  }
  return alone;
}

}  // namespace

absl::StatusOr<RunConfig> ServeConfig(const ServeOptions& options) {
  if (options.config_path.empty() == options.model_dir.empty()) {
    return absl::InvalidArgumentError("give either --config or --model");
  }
  if (options.config_path.empty()) return ConfigAlone(options);
  if (!options.verifiers.empty())
    return absl::InvalidArgumentError("--verifier: a run has its own, in `verifiers`");
  if (!options.settings.empty())
    return absl::InvalidArgumentError("--set: a run has its settings in its configuration");
  if (options.run_dir.empty()) return absl::InvalidArgumentError("--config needs --run-dir");
  if (options.trainer_address.empty())
    return absl::InvalidArgumentError("--config needs --trainer");
  ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(options.config_path));
  config.generator = SectionOf(options, config.generator);
  return config;
}

}  // namespace tramontane
