// The `tramontane` program: one command, one function. Torch-free.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/doctor.h"
#include "cli/pause.h"
#include "cli/plot.h"
#include "cli/presets.h"
#include "cli/references.h"
#include "cli/run_command.h"
#include "cli/run_dir.h"
#include "cli/status.h"
#include "cli/summary.h"
#include "cli/tools.h"
#include "cli/validate.h"
#include "cli/verifiers_command.h"
#include "common/config.h"
#include "common/log.h"
#include "data/make_tasks.h"
#include "services/handshake.h"
#include "services/tool_main.h"
#include "text/tools.h"

namespace tramontane {
namespace {

// Arguments of all commands; each command reads its own.
struct Arguments {
  RunArguments run;
  std::string run_dir, model, config, reason = "by hand";
  std::vector<std::string> overrides;
  bool watch = false, png = false;
  double interval_s = 2;
  MakeTasksOptions tasks;
  PresetsArguments presets;
};

void AddJson(CLI::App* command, CommandContext& context) {
  command->add_flag("--json", context.json, "Print JSON on standard output");
}

void AddRun(CLI::App& app, CommandContext& context, Arguments& args, int& status) {
  for (const char* name : {"run", "sft"}) {
    const bool sft = std::string(name) == "sft";
    CLI::App* run = app.add_subcommand(name, sft ? "Run the SFT stage of a configuration alone"
                                                 : "Run a configuration on this machine");
    AddJson(run, context);
    run->add_option("config", args.run.config, "YAML file; with --resume also a run directory")->required();
    run->add_option("overrides", args.run.overrides, "Values that replace the file's, as a.b=c");
    run->add_option("--output", args.run.output, "Replaces run.output_dir");
    run->add_flag("--dry-run", args.run.dry_run, "Print the configuration and what follows from it");
    run->add_flag("--resume", args.run.resume, "Go on from the newest checkpoint and the journal");
    run->add_flag("--clean", args.run.clean, "Remove an earlier run of this name first");
    run->callback([&context, &args, &status, sft] {
      args.run.sft_only = sft;
      status = RunCommand(context, args.run);
    });
  }
}

void AddInspection(CLI::App& app, CommandContext& context, Arguments& args, int& status) {
  CLI::App* show = app.add_subcommand("status", "What each process of a run does, and whom it waits for");
  AddJson(show, context);
  show->add_option("run", args.run_dir, "Run directory")->required();
  show->add_flag("--watch", args.watch, "Again and again, until interrupted");
  show->add_option("--interval", args.interval_s, "Seconds between two looks")->check(CLI::Range(0.1, 3600.0));
  show->callback([&] { status = StatusCommand(context, args.run_dir, args.watch, args.interval_s); });

  CLI::App* pause = app.add_subcommand("pause", "No further step, until `unpause`");
  AddJson(pause, context);
  pause->add_option("run", args.run_dir, "Run directory")->required();
  pause->add_option("--reason", args.reason, "Shown by `status`");
  pause->callback([&] { status = PauseCommand(context, args.run_dir, args.reason); });

  CLI::App* unpause = app.add_subcommand("unpause", "Go on with a paused run");
  AddJson(unpause, context);
  unpause->add_option("run", args.run_dir, "Run directory")->required();
  unpause->callback([&] { status = UnpauseCommand(context, args.run_dir); });

  CLI::App* summary = app.add_subcommand("summary", "What came out of a run");
  AddJson(summary, context);
  summary->add_option("run", args.run_dir, "Run directory")->required();
  summary->callback([&] {
    const auto result = Summarise(args.run_dir);
    if (!result.ok()) status = Fail(context, "summary", result.status());
    else if (context.json) status = PrintJson(*result);
    else std::cout << RenderSummary(*result);
  });

  CLI::App* plot = app.add_subcommand("plot", "Draw reward and accuracy of a run");
  AddJson(plot, context);
  plot->add_option("run", args.run_dir, "Run directory")->required();
  plot->add_flag("--png", args.png, "PNG rather than SVG");
  plot->callback([&] {
    const auto picture = PlotRun(args.run_dir, args.png ? PictureFormat::kPng : PictureFormat::kSvg);
    if (!picture.ok()) status = Fail(context, "plot", picture.status());
    else if (context.json) status = PrintJson({{"picture", *picture}});
    else std::cout << *picture << "\n";
  });

  CLI::App* doctor = app.add_subcommand("doctor", "Is everything here that a run needs?");
  AddJson(doctor, context);
  doctor->add_option("run", args.run_dir, "Run directory: checks its data and journal as well");
  doctor->callback([&] { status = DoctorCommand(context, args.run_dir); });
}

int Validate(const CommandContext& context, const Arguments& args) {
  auto config = LoadConfig(ConfigPathOf(args.config), args.overrides);
  if (!config.ok()) return Fail(context, "validate", config.status());
  const auto result = ValidateRun(*config);
  if (!result.ok()) return Fail(context, "validate", result.status());
  if (context.json) return PrintJson(*result);
  for (const Json& file : (*result)["files"]) std::cout << file.dump() << "\n";
  std::cout << "ok\n";
  return 0;
}

void AddData(CLI::App& app, CommandContext& context, Arguments& args, int& status) {
  CLI::App* validate = app.add_subcommand("validate", "Check a configuration and every row of its data");
  AddJson(validate, context);
  validate->add_option("config", args.config, "YAML file or run directory")->required();
  validate->add_option("overrides", args.overrides, "a.b=c");
  validate->callback([&] { status = Validate(context, args); });

  CLI::App* tasks = app.add_subcommand("make-tasks", "Write seeded tasks: train, eval and sft files");
  AddJson(tasks, context);
  tasks->add_option("--out", args.tasks.out_dir, "Folder for the files")->required();
  tasks->add_option("--kinds", args.tasks.kinds, "Task kinds")->delimiter(',');
  tasks->add_option("--train", args.tasks.train_rows, "Training prompts");
  tasks->add_option("--eval", args.tasks.eval_rows, "Held-out prompts");
  tasks->add_option("--sft", args.tasks.sft_rows, "Worked solutions by the careless teacher");
  tasks->add_option("--forget", args.tasks.teacher.forget, "Chance that the teacher drops a carry");
  tasks->add_option("--slip", args.tasks.teacher.slip, "Chance that it miscounts a step");
  tasks->add_option("--seed", args.tasks.seed, "Seed");
  tasks->callback([&] {
    const absl::Status made = MakeTaskFiles(args.tasks);
    if (!made.ok()) status = Fail(context, "make-tasks", made);
    else if (context.json) status = PrintJson({{"folder", args.tasks.out_dir}});
  });

  for (const char* name : {"tokenize", "template"}) {
    const bool tokenize = std::string(name) == "tokenize";
    CLI::App* tool = app.add_subcommand(name, tokenize ? "Text to token ids and back"
                                                       : "Render a model's chat template");
    AddJson(tool, context);
    tool->add_option("--model", args.model, "Hugging Face folder")->required();
    tool->callback([&, tokenize, name] {
      status = RunJsonTool(name, std::cin, std::cout, [&](const nlohmann::ordered_json& in) {
        return tokenize ? TokenizeTool(args.model, in) : TemplateTool(args.model, in);
      });
    });
  }
  CLI::App* presets = app.add_subcommand("presets", "List, show and compare published recipes");
  AddJson(presets, context);
  presets->add_option("name", args.presets.name, "Recipe to show");
  presets->add_option("--diff", args.presets.diff, "Two recipes to compare")->expected(2);
  presets->callback([&] { status = PresetsCommand(context, args.presets); });
  app.add_subcommand("config-reference", "Print docs/configuration.md")->callback([] {
    std::cout << ConfigReferenceMarkdown();
  });
  app.add_subcommand("metrics-reference", "Print docs/metrics.md")->callback([] {
    std::cout << MetricsReferenceMarkdown();
  });
}

void AddTools(CLI::App& app, const CommandContext& context, int& status) {
  for (const ToolRoute& route : ToolRoutes()) {
    CLI::App* tool = app.add_subcommand(route.command, route.help);
    tool->prefix_command();
    tool->set_help_flag();  // the other binary's help is the right one
    tool->callback([&context, &route, &status, tool] { status = ExecTool(context, route, tool->remaining()); });
  }
  CLI::App* verifier = app.add_subcommand(
      "verifier", "A verifier in Python: init, validate, test, serve, replay, pack");
  verifier->prefix_command();
  verifier->set_help_flag();
  verifier->callback(
      [&context, &status, verifier] { status = ExecVerifierPackage(context, verifier->remaining()); });
}

int Main(int argc, char** argv) {
  CommandContext context;
  context.binary_dir = std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  InitLogging("tramontane");

  CLI::App app("Tramontane: asynchronous reinforcement learning for reasoning language models");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionLine("tramontane"));
  Arguments args;
  int status = 0;
  AddRun(app, context, args, status);
  AddInspection(app, context, args, status);
  AddData(app, context, args, status);
  AddVerifierCommands(app, context, status);
  AddTools(app, context, status);
  if (const auto exit = ParseArguments(app, argc, argv, std::cout, std::cerr)) return *exit;
  return status;
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
