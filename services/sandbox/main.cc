// tramontane-sandbox: runs programs for verifiers on other machines, or says what protection this
// machine offers.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "common/config.h"
#include "common/log.h"
#include "common/metrics.h"
#include "services/handshake.h"
#include "services/runner.h"
#include "services/sandbox/open_runner.h"
#include "services/sandbox/service.h"
#include "services/tool_main.h"
#include "verifier/sandbox/program.h"

namespace tramontane {
namespace {

struct ServeFlags {
  std::string config;
  std::optional<std::string> metrics_bind;
  size_t max_waiting = 1024;
  RunnerOptions runner;
};

// A sandbox of this machine, whatever the configuration's verifiers are told.
absl::StatusOr<RunConfig> ReadConfig(const std::string& path) {
  RunConfig config;
  if (!path.empty()) {
    absl::StatusOr<RunConfig> read = LoadConfig(path, {});
    if (!read.ok()) return read.status();
    config = *std::move(read);
  }
  config.sandbox.address.clear();
  return config;
}

int Serve(ServeFlags flags) {
  flags.runner.process = "sandbox";
  InitLogging(flags.runner.process);
  MetricsRegistry metrics;
  const absl::StatusOr<RunConfig> config = ReadConfig(flags.config);
  flags.runner.metrics_bind =
      flags.metrics_bind.value_or(config.ok() ? config->metrics.bind : std::string());
  ServiceRunner runner(flags.runner, metrics);
  if (!config.ok()) return runner.Fail(config.status());
  const auto programs = OpenRunner(config->sandbox, metrics);
  if (!programs.ok()) return runner.Fail(programs.status());
  const absl::StatusOr<SandboxDescription> description = (*programs)->Describe();
  if (!description.ok()) return runner.Fail(description.status());

  SandboxService service(**programs, *description, flags.max_waiting);
  runner.AddService(&service, SandboxService::kFullName);
  runner.OnDrain([&service](double) { service.Drain(); });
  runner.OnState([&service, &runner, &description] {
    ProcessStatus status;
    status.phase = runner.stop() ? "draining" : "serving";
    status.detail = ToJson(*description);
    status.detail["waiting"] = service.waiting();
    return status;
  });
  if (const absl::Status started = runner.Start(); !started.ok()) return runner.Fail(started);
  runner.WaitForStop();
  return runner.Shutdown();
}

absl::StatusOr<Json> Describe(const std::string& path) {
  absl::StatusOr<RunConfig> config = ReadConfig(path);
  if (!config.ok()) return config.status();
  config->sandbox.programs = 1;
  MetricsRegistry metrics;
  const auto runner = OpenRunner(config->sandbox, metrics);
  if (!runner.ok()) return runner.status();
  const auto description = (*runner)->Describe();
  if (!description.ok()) return description.status();
  return ToJson(*description);
}

int Main(int argc, char** argv) {
  CLI::App app("Tramontane sandbox");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionLine("tramontane-sandbox"));
  ServeFlags serve;
  serve.runner.bind = "127.0.0.1:0";
  CLI::App* serve_command = app.add_subcommand("serve", "Run programs for verifiers, over gRPC");
  serve_command->add_option("--config", serve.config, "Configuration with a `sandbox` section");
  serve_command->add_option("--bind", serve.runner.bind, "host:port; port 0 picks a free one");
  serve_command->add_option("--metrics-bind", serve.metrics_bind,
                            "host:port of /metrics; empty: off");
  serve_command
      ->add_option("--max-waiting", serve.max_waiting,
                   "Runs that may wait; beyond it: resource exhausted")
      ->check(CLI::Range(1, 1 << 20));
  serve_command->add_option("--ready-file", serve.runner.ready_file,
                            "The listening line is written here too");
  serve_command->add_flag("--exit-with-parent", serve.runner.exit_with_parent,
                          "Drain when the starting process dies");
  std::string describe_config;
  bool json = true;
  CLI::App* describe = app.add_subcommand("describe", "Tier and layers on this machine, as JSON");
  describe->add_flag("--json", json, "Always so; accepted for uniformity");
  describe->add_option("--config", describe_config, "Configuration with a `sandbox` section");

  if (const auto exit = ParseArguments(app, argc, argv, std::cout, std::cerr)) return *exit;
  if (serve_command->parsed()) return Serve(std::move(serve));
  InitLogging("sandbox");
  return PrintJsonResult("sandbox", std::cout, Describe(describe_config));
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
