// Commands whose work another binary does: this program becomes that one.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace tramontane {

struct ToolRoute {
  const char* command;  // of `tramontane`
  const char* binary;   // sibling that does it
  const char* tool;     // its subcommand
  const char* help;
  // `command first_argument …` is the tool of this binary instead; null: there is none.
  const char* first_argument = nullptr;
  const char* other_binary = nullptr;
};

const std::vector<ToolRoute>& ToolRoutes();

// Replaces this process; returns (with an exit status) only when that fails.
int ExecTool(const CommandContext& context, const ToolRoute& route,
             const std::vector<std::string>& arguments);

// `tramontane verifier VERB …`: becomes the verifier package's command line (verifier/sdk/python).
int ExecVerifierPackage(const CommandContext& context, const std::vector<std::string>& arguments);

// The interpreter that has it: that of the environment which TRAMONTANE_PYTHON_VERIFIER names, else
// of the one deps/make-python-verifier.sh made, else `python3`.
std::string VerifierPackagePython();

}  // namespace tramontane
