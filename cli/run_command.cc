#include "cli/run_command.h"

#include <unistd.h>

#include <iostream>
#include <utility>

#include "cli/chain.h"
#include "cli/plot.h"
#include "cli/progress.h"
#include "cli/registry.h"
#include "cli/run_dir.h"
#include "cli/run_session.h"
#include "cli/status.h"
#include "cli/summary.h"
#include "cli/validate.h"
#include "common/algorithm_rules.h"
#include "common/config.h"
#include "common/files.h"
#include "common/kind_rules.h"
#include "common/log.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr int kInterrupted = 130;  // what a shell expects of a program that Ctrl-C ended

absl::StatusOr<RunConfig> LoadRunConfig(const RunArguments& arguments) {
  std::vector<std::string> overrides = arguments.overrides;
  if (!arguments.output.empty()) overrides.push_back("run.output_dir=" + arguments.output);
  if (arguments.sft_only) {
    overrides.push_back("run.kind=sft");
    overrides.push_back("run.max_steps=0");
  }
  auto config = LoadConfig(ConfigPathOf(arguments.config), overrides);
  if (config.ok()) MakePathsAbsolute(*config);
  if (config.ok()) RETURN_IF_ERROR(VerifierRegistry(RegistryFolder()).Pin(*config));
  return config;
}

int PrintDryRun(const CommandContext& context, const RunConfig& config) {
  const Json derived = DerivedNumbers(config);
  if (context.json) return PrintJson({{"config", ToJson(config)}, {"derived", derived}});
  std::cout << ToJson(config).dump(2) << "\n\nderived from it:\n";
  for (const auto& [name, value] : derived.items()) {
    std::cout << "  " << name << ": " << value.dump() << "\n";
  }
  return 0;
}

ProgressPrinter::Mode PrintMode(const CommandContext& context) {
  if (context.json) return ProgressPrinter::Mode::kJson;
  return ::isatty(STDOUT_FILENO) ? ProgressPrinter::Mode::kTerminal : ProgressPrinter::Mode::kPlain;
}

// Of a run with an RL loop: summary.json, curves.svg and the closing table. What cannot be summed up or drawn is
// said, not fatal.
absl::Status CloseRun(const CommandContext& context, const RunDir& dir, const RunSession& session) {
  auto summary = Summarise(dir.path());
  if (!summary.ok()) {
    LogWarn("no_summary", {{"error", summary.status()}});
    return absl::OkStatus();
  }
  (*summary)["restarts"] = session.restarts();
  if (const auto share = session.generator_busy_share())
    (*summary)["generator_busy_share"] = *share;
  const auto picture = PlotRun(dir.path(), PictureFormat::kSvg);
  (*summary)["picture"] = picture.ok() ? Json(*picture) : Json();
  if (!picture.ok()) LogWarn("no_picture", {{"error", picture.status()}});
  RETURN_IF_ERROR(WriteFileAtomic(dir.path() + "/summary.json", summary->dump(2) + "\n"));
  if (context.json) {
    (*summary)["event"] = "summary";
    PrintJson(*summary);
  } else {
    std::cout << "\n" << RenderSummary(*summary) << std::flush;
  }
  return absl::OkStatus();
}

// Everything that can be refused before anything starts.
absl::Status CheckBeforeStart(const RunConfig& config) {
  if (!config.stages.empty()) return CheckChain(config);
  if (RunsAlone(config)) return absl::OkStatus();
  RETURN_IF_ERROR(CheckRunnable(config.algorithm));
  return CheckAnswers(config);
}

absl::Status RunOneStage(const CommandContext& context, const RunConfig& config, RunDir& dir,
                      bool resume, ProgressPrinter& printer) {
  const SystemClock clock;
  RunSession session(config, dir, {.binary_dir = context.binary_dir, .resume = resume}, printer,
                     clock);
  RETURN_IF_ERROR(session.Run());
  if (config.run.kind != "rl" && config.run.kind != "distill") return absl::OkStatus();
  return RunsAlone(config) ? absl::OkStatus() : CloseRun(context, dir, session);
}

// summary.json, curves.svg and the closing tables of a chain, which may have no step to draw.
absl::Status CloseChain(const CommandContext& context, const RunDir& dir) {
  ASSIGN_OR_RETURN(Json summary, Summarise(dir.path()));
  const auto picture = PlotRun(dir.path(), PictureFormat::kSvg);
  summary["picture"] = picture.ok() ? Json(*picture) : Json();
  RETURN_IF_ERROR(WriteFileAtomic(dir.path() + "/summary.json", summary.dump(2) + "\n"));
  if (context.json) {
    summary["event"] = "summary";
    PrintJson(summary);
  } else {
    std::cout << "\n" << RenderSummary(summary) << std::flush;
  }
  return absl::OkStatus();
}

absl::Status RunAll(const CommandContext& context, const RunConfig& config, RunDir& dir,
                    bool resume) {
  ProgressPrinter printer(stdout, PrintMode(context));
  if (config.stages.empty()) return RunOneStage(context, config, dir, resume, printer);
  RETURN_IF_ERROR(dir.WriteConfig(config));
  RETURN_IF_ERROR(RunChain(
      config, dir.path(),
      [&](const RunConfig& stage, RunDir& stage_dir, bool begun) {
        return RunOneStage(context, stage, stage_dir, begun, printer);
      },
      [&](const Json& event) { printer.Event(event); }));
  return CloseChain(context, dir);
}

}  // namespace

int RunCommand(const CommandContext& context, const RunArguments& arguments) {
  const std::string where = arguments.sft_only ? "sft" : "run";
  if (arguments.resume && arguments.clean) {
    return Fail(context, where,
                absl::InvalidArgumentError("--resume and --clean exclude each other"));
  }
  auto config = LoadRunConfig(arguments);
  if (!config.ok()) return Fail(context, where, config.status());
  if (arguments.dry_run) return PrintDryRun(context, *config);
  const absl::Status checked = CheckBeforeStart(*config);
  if (!checked.ok()) return Fail(context, where, checked);

  const RunDirMode mode = arguments.resume  ? RunDirMode::kResume
                          : arguments.clean ? RunDirMode::kClean
                                            : RunDirMode::kNew;
  auto dir = RunDir::Create(*config, mode);
  if (!dir.ok()) return Fail(context, where, dir.status());
  if (context.json) {
    PrintJson({{"event", "run"}, {"run_dir", dir->path()}, {"attempt", dir->attempt()}});
  } else {
    std::cout << dir->path() << std::endl;
  }
  const absl::Status result = RunAll(context, *config, *dir, arguments.resume);
  if (absl::IsCancelled(result)) {
    if (!context.json) {
      std::cout << "stopped; go on with: tramontane run " << dir->path() << " --resume\n";
    }
    return kInterrupted;
  }
  return result.ok() ? 0 : Fail(context, where, result);
}

}  // namespace tramontane
