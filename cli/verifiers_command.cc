#include "cli/verifiers_command.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/registry.h"
#include "cli/reverify.h"
#include "cli/run_dir.h"
#include "common/files.h"
#include "common/status.h"
#include "services/verifier/score_differences.h"
#include "services/verifier/who_is_it.h"

namespace tramontane {
namespace {

// What the verbs are given; each reads its own.
struct Arguments {
  std::string package, address, python = "python3", name, version, run, use;
  bool force = false, none = false;
  double canary = 0;
  ReverifyOptions reverify;
};

std::string Label(const RegisteredVersion& version) { return version.name + "@" + version.version; }

Json ToJson(const RegisteredVerifier& verifier) {
  Json versions = Json::array();
  for (const RegisteredVersion& v : verifier.versions) {
    versions.push_back({{"version", v.version},
                        {"digest", v.digest},
                        {"address", v.address},
                        {"package", v.package}});
  }
  return {{"name", verifier.name},           {"current", verifier.current},
          {"shadow", verifier.shadow},       {"canary_fraction", verifier.canary_fraction},
          {"versions", std::move(versions)}, {"history", verifier.history}};
}

absl::StatusOr<Json> Submit(const VerifierRegistry& registry, const Arguments& args) {
  absl::StatusOr<RegisteredVersion> version = absl::InvalidArgumentError(
      "give the manifest that `tramontane-verifier pack` wrote, or --address");
  if (!args.package.empty()) {
    version = registry.SubmitPackage(args.package, args.python);
  } else if (!args.address.empty()) {
    ASSIGN_OR_RETURN(const VerifierIdentity who, WhoIsIt(args.address));
    version = registry.SubmitService({who.name, who.version, who.digest, args.address, "", ""});
  }
  RETURN_IF_ERROR(version.status());
  ASSIGN_OR_RETURN(const RegisteredVerifier verifier, registry.Get(version->name));
  return Json{{"name", version->name},
              {"version", version->version},
              {"digest", version->digest},
              {"current", verifier.current}};
}

// The run's keys of the verifier `name`: those that use it from the registry, or that are called
// so.
absl::StatusOr<std::vector<std::string>> KeysOf(const std::string& run, const std::string& name) {
  const auto config = LoadConfig(run + "/configs/config.json", {});
  if (!config.ok()) return Annotate(config.status(), "is " + run + " a run directory?");
  std::vector<std::string> keys;
  for (const auto& [key, section] : config->verifiers) {
    const std::string used =
        section.use.empty() ? key : section.use.substr(0, section.use.find('@'));
    if (used == name) keys.push_back(key);
  }
  if (keys.empty()) {
    return absl::NotFoundError(run + ": none of its verifiers is " + name +
                               "; see `tramontane reverify` for other comparisons, and --force");
  }
  return keys;
}

// How `name@version` would have scored the run's samples that `name` judged; null without a run.
absl::StatusOr<Json> Comparison(const CommandContext& context, const Arguments& args) {
  if (args.run.empty()) return Json();
  ASSIGN_OR_RETURN(std::vector<std::string> keys, KeysOf(args.run, args.name));
  return Reverify(context, {.rollouts = {.run_dir = args.run, .only = std::move(keys)},
                            .verifier = args.name + "@" + args.version});
}

absl::StatusOr<Json> Shadow(const CommandContext& context, const VerifierRegistry& registry,
                            const Arguments& args) {
  if (args.none == !args.version.empty()) {
    return absl::InvalidArgumentError("give a version, or --none");
  }
  Json report;
  if (!args.none) {
    ASSIGN_OR_RETURN(report, Comparison(context, args));
  }
  RETURN_IF_ERROR(registry.Shadow(args.name, args.version, report, args.canary));
  return Json{{"name", args.name}, {"shadow", args.version}, {"report", report}};
}

absl::StatusOr<Json> Promote(const CommandContext& context, const VerifierRegistry& registry,
                             const Arguments& args) {
  ASSIGN_OR_RETURN(Json report, Comparison(context, args));
  if (report.is_null() && args.force) report = {{"forced", true}};
  RETURN_IF_ERROR(registry.Promote(args.name, args.version, report));
  return Json{{"name", args.name}, {"current", args.version}, {"report", report}};
}

// Moves the pin of a run that is not running: it goes on with this version.
absl::StatusOr<Json> Pin(const VerifierRegistry& registry, const Arguments& args) {
  ASSIGN_OR_RETURN(const RegisteredVersion version, registry.Find(args.use));
  const std::string path = args.run + "/configs/config.json";
  auto config = LoadConfig(path, {});
  if (!config.ok()) return Annotate(config.status(), "is " + args.run + " a run directory?");
  ASSIGN_OR_RETURN(const RunDir held, RunDir::Create(*config, RunDirMode::kResume));
  Json moved = Json::array();
  for (auto& [key, section] : config->verifiers) {
    if (section.use.substr(0, section.use.find('@')) != version.name) continue;
    section.use = Label(version);
    section.version = version.version;
    section.digest = version.digest;
    moved.push_back(key);
  }
  if (moved.empty()) {
    return absl::NotFoundError(args.run + ": none of its verifiers uses " + version.name);
  }
  RETURN_IF_ERROR(held.WriteConfig(*config));
  return Json{{"run", args.run},
              {"verifiers", moved},
              {"version", version.version},
              {"digest", version.digest}};
}

absl::StatusOr<Json> List(const VerifierRegistry& registry) {
  ASSIGN_OR_RETURN(const std::vector<RegisteredVerifier> all, registry.List());
  Json json = Json::array();
  for (const RegisteredVerifier& verifier : all) json.push_back(ToJson(verifier));
  return Json{{"registry", RegistryFolder()}, {"verifiers", json}};
}

std::string RenderList(const Json& list) {
  std::string text;
  for (const Json& verifier : list["verifiers"]) {
    for (const Json& version : verifier["versions"]) {
      const bool current = version["version"] == verifier["current"];
      const bool shadow = version["version"] == verifier["shadow"];
      text += verifier["name"].get<std::string>() + "@" + version["version"].get<std::string>() +
              "  " + version["digest"].get<std::string>().substr(0, 12) +
              (current  ? "  current"
               : shadow ? "  shadow"
                        : "") +
              "\n";
    }
  }
  return text.empty() ? "no verifiers in " + list["registry"].get<std::string>() + "\n" : text;
}

std::string Render(const std::string& verb, const Json& result) {
  if (verb == "list") return RenderList(result);
  std::string text;
  if (result.contains("report") && result["report"].contains("samples")) {
    text = RenderDifferences(result["report"]);
  }
  Json rest = result;
  rest.erase("report");
  return text + rest.dump() + "\n";
}

int Tell(const CommandContext& context, const std::string& verb, const absl::StatusOr<Json>& result,
         const std::function<std::string(const Json&)>& render) {
  if (!result.ok()) return Fail(context, verb, result.status());
  if (context.json) return PrintJson(*result);
  std::cout << render(*result);
  return 0;
}

void AddRegistry(CLI::App& app, CommandContext& context, int& status,
                 const std::shared_ptr<Arguments>& args) {
  CLI::App* verifiers = app.add_subcommand("verifiers", "The registry of verifiers");
  verifiers->require_subcommand(1);
  using Verb = std::function<absl::StatusOr<Json>(const VerifierRegistry&)>;
  const auto add = [&context, &status, verifiers](const std::string& name, const char* help,
                                                  Verb verb) {
    CLI::App* command = verifiers->add_subcommand(name, help);
    command->add_flag("--json", context.json, "Print JSON on standard output");
    command->callback([&context, &status, name, verb = std::move(verb)] {
      status = Tell(context, "verifiers " + name, verb(VerifierRegistry(RegistryFolder())),
                    [name](const Json& result) { return Render(name, result); });
    });
    return command;
  };
  CLI::App* submit = add("submit", "Add a version: a package, or a service that runs",
                         [args](const auto& registry) { return Submit(registry, *args); });
  submit->add_option("manifest", args->package, "NAME-VERSION.json of `tramontane-verifier pack`");
  submit->add_option("--address", args->address, "host:port of a service");
  submit->add_option("--python", args->python, "Interpreter that serves the package");
  add("list", "Every version, and which is current",
      [](const auto& registry) { return List(registry); });
  CLI::App* pin = add("pin", "Have a run that is stopped go on with a version",
                      [args](const auto& registry) { return Pin(registry, *args); });
  pin->add_option("run", args->run, "Run directory")->required();
  pin->add_option("version", args->use, "NAME or NAME@VERSION")->required();
  CLI::App* shadow = add("shadow", "Compare a version with the current one, in runs that start now",
                         [&context, args](const auto& r) { return Shadow(context, r, *args); });
  shadow->add_flag("--none", args->none, "No version any more");
  shadow->add_option("--canary", args->canary, "Share of the groups that it judges itself")
      ->check(CLI::Range(0.0, 1.0));
  CLI::App* promote = add("promote", "Make a version current, its score differences shown first",
                          [&context, args](const auto& r) { return Promote(context, r, *args); });
  promote->add_flag("--force", args->force, "Without a comparison");
  for (CLI::App* command : {shadow, promote}) {
    command->add_option("name", args->name, "Verifier")->required();
    auto* version = command->add_option("version", args->version, "Version");
    if (command == promote) version->required();
    command->add_option("--run", args->run, "Compare on the rollouts of this run");
  }
  CLI::App* rollback = add("rollback", "Back to the version before",
                           [args](const VerifierRegistry& registry) -> absl::StatusOr<Json> {
                             ASSIGN_OR_RETURN(const std::string now, registry.Rollback(args->name));
                             return Json{{"name", args->name}, {"current", now}};
                           });
  rollback->add_option("name", args->name, "Verifier")->required();
}

}  // namespace

void AddVerifierCommands(CLI::App& app, CommandContext& context, int& status) {
  const auto args = std::make_shared<Arguments>();
  AddRegistry(app, context, status, args);
  CLI::App* reverify =
      app.add_subcommand("reverify", "Score a run's stored rollouts again, and compare");
  ReverifyOptions& options = args->reverify;
  reverify->add_option("run", options.rollouts.run_dir, "Run directory")->required();
  reverify
      ->add_option("--verifier", options.verifier,
                   "One of the run's, NAME[@VERSION] of the registry, host:port, builtin:NAME")
      ->required();
  reverify->add_option("--only", options.rollouts.only,
                       "Samples that this verifier of the run judged");
  reverify->add_option("--kind", options.rollouts.kind, "train or eval")
      ->check(CLI::IsMember({"train", "eval"}));
  reverify->add_option("--stage", options.stage, "Of a chain: this stage alone");
  reverify->add_option("--limit", options.rollouts.limit, "Samples; 0: all");
  reverify->add_flag("--json", context.json, "Print JSON on standard output");
  reverify->callback([&context, &status, args] {
    status = Tell(context, "reverify", Reverify(context, args->reverify), RenderDifferences);
  });
}

}  // namespace tramontane
