// `tramontane run` and `tramontane sft`.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace tramontane {

struct RunArguments {
  std::string config;                  // YAML file; with --resume also a run directory
  std::vector<std::string> overrides;  // a.b=c
  std::string output;                  // replaces run.output_dir; empty: as configured
  bool dry_run = false, resume = false, clean = false;
  bool sft_only = false;
};

int RunCommand(const CommandContext& context, const RunArguments& arguments);

}  // namespace tramontane
