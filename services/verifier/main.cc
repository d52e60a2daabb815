// tramontane-verifier: serves a built-in grader, or judges a document of items at once.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "common/config.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"
#include "services/handshake.h"
#include "services/sandbox/open_runner.h"
#include "services/tool_main.h"
#include "services/verifier/serve.h"
#include "verifier/algebra/algebra.h"
#include "verifier/grade_tool.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

constexpr int32_t kMostThreads = 256;

struct ServeFlags {
  std::string config;  // resolved configuration; empty: defaults
  std::string name;    // key of the configuration's `verifiers`
  std::optional<std::string> metrics_bind;
  VerifierServeOptions serve;
};

absl::StatusOr<RunConfig> ReadConfig(const std::string& path) {
  if (path.empty()) return RunConfig{};
  return LoadConfig(path, {});
}

// What `verifiers.<name>.builtin` names; without a configuration the name itself.
absl::StatusOr<std::string> BuiltinName(const RunConfig& config, const ServeFlags& flags) {
  if (flags.config.empty()) return flags.name;
  const auto it = config.verifiers.find(flags.name);
  if (it == config.verifiers.end()) {
    return absl::NotFoundError(flags.config + ": verifiers." + flags.name + ": not there");
  }
  if (it->second.builtin.empty()) {
    return absl::InvalidArgumentError(flags.config + ": verifiers." + flags.name +
                                      ": is not built in");
  }
  return it->second.builtin;
}

// Jails, or a connection to a service of them, for the graders that need it.
absl::StatusOr<std::shared_ptr<ProgramRunner>> SandboxFor(const std::string& builtin,
                                                          const SandboxSection& section,
                                                          MetricsRegistry& metrics) {
  if (!NeedsSandbox(builtin)) return nullptr;
  return OpenRunner(section, metrics);
}

// What the grader `builtin` needs or can use.
absl::StatusOr<GraderTools> ToolsFor(const std::string& builtin, const SandboxSection& section,
                                     MetricsRegistry& metrics) {
  GraderTools tools;
  ASSIGN_OR_RETURN(tools.sandbox, SandboxFor(builtin, section, metrics));
  if (builtin != "math") return tools;
  if (const absl::StatusOr<AlgebraOptions> found = FindAlgebra(); found.ok()) {
    tools.algebra = std::make_shared<Algebra>(*found, metrics);
  }
  return tools;
}

void LogAlgebra(const std::string& builtin) {
  if (builtin != "math") return;
  const absl::StatusOr<AlgebraOptions> found = FindAlgebra();
  if (found.ok()) {
    LogInfo("algebra", {{"sympy", found->version}, {"python", found->python}});
  } else {
    LogInfo("algebra", {{"missing", std::string(found.status().message())}});
  }
}

absl::StatusOr<std::unique_ptr<Grader>> MakeGrader(const RunConfig& config, const ServeFlags& flags,
                                                   MetricsRegistry& metrics,
                                                   ScoringOptions& scoring) {
  ASSIGN_OR_RETURN(const std::string builtin, BuiltinName(config, flags));
  ASSIGN_OR_RETURN(const GraderTools tools, ToolsFor(builtin, config.sandbox, metrics));
  LogAlgebra(builtin);
  // A worker waits while its program runs.
  if (tools.sandbox) {
    ASSIGN_OR_RETURN(const SandboxDescription description, tools.sandbox->Describe());
    scoring.threads = std::max(scoring.threads, std::min(description.programs, kMostThreads));
    scoring.tier = description.tier;
  }
  return MakeBuiltinGrader(builtin, config.reward, tools);
}

int Serve(ServeFlags flags) {
  flags.serve.runner.process = "verifier-" + flags.name;
  InitLogging(flags.serve.runner.process);
  MetricsRegistry metrics;
  const absl::StatusOr<RunConfig> config = ReadConfig(flags.config);
  flags.serve.runner.metrics_bind =
      flags.metrics_bind.value_or(config.ok() ? config->metrics.bind : std::string());
  const auto make = [&](ScoringOptions& scoring) -> absl::StatusOr<std::shared_ptr<const Grader>> {
    RETURN_IF_ERROR(config.status());
    return MakeGrader(*config, flags, metrics, scoring);
  };
  return ServeVerifier(flags.serve, metrics, make);
}

int Main(int argc, char** argv) {
  CLI::App app("Tramontane verifier: the built-in graders");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionLine("tramontane-verifier") + ", the built-in graders");

  ServeFlags serve;
  serve.serve.runner.bind = "127.0.0.1:0";
  CLI::App* serve_command = app.add_subcommand("serve", "Serve a built-in grader over gRPC");
  serve_command->add_option("--config", serve.config, "Resolved run configuration");
  // The Python package's command has the same name; whoever meant that one is told.
  std::string python_file;
  serve_command->add_option("FILE", python_file, "Not for this program: see the Python package")
      ->check([](const std::string& file) {
        return "this tramontane-verifier is the C++ program with the built-in graders; " + file +
               " is served by the Python package: python3 -m tramontane_verifier serve " + file;
      });
  serve_command
      ->add_option("--name", serve.name, "Key of `verifiers`; without --config: math, exact")
      ->required();
  AddServeOptions(*serve_command, serve.serve);
  serve_command->add_option("--metrics-bind", serve.metrics_bind,
                            "host:port of /metrics; empty: off");

  std::string grader = "math", grade_config;
  bool json = true;
  CLI::App* grade_command =
      app.add_subcommand("grade", "Judge a JSON document of items from standard input");
  grade_command->add_option("--verifier", grader, "Name of a built-in grader");
  grade_command->add_option("--config", grade_config, "Take the reward table from here");
  grade_command->add_flag("--json", json, "Always so; accepted for uniformity");

  if (const auto exit = ParseArguments(app, argc, argv, std::cout, std::cerr)) return *exit;
  if (serve_command->parsed()) return Serve(std::move(serve));
  InitLogging("tramontane-verifier");  // standard output is the document's
  return RunJsonTool("grade", std::cin, std::cout, [&](const Json& in) -> absl::StatusOr<Json> {
    const absl::StatusOr<RunConfig> config = ReadConfig(grade_config);
    if (!config.ok()) return config.status();
    MetricsRegistry metrics;
    const absl::StatusOr<GraderTools> tools = ToolsFor(grader, config->sandbox, metrics);
    if (!tools.ok()) return tools.status();
    return GradeTool(grader, in, config->reward, *tools);
  });
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
